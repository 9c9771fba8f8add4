from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import MultiQueryAttention2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mobilenets.auditing.count import count
from mobilenets.errors import ModelError
from mobilenets.models.layers import relu
from mobilenets.models.mobilenet_v4_blocks import (
    LAYER_SCALE_START,
    FusedBottleneck,
    LayerScale,
    MobileAttention,
    MultiQueryAttention,
    UniversalBottleneck,
)

bottleneck = partial(UniversalBottleneck, stride=1, layer_scale=False, norm=nn.BatchNorm2d, activation=relu)
KINDS = [(5, 3), (None, 3), (5, None), (None, None)]


@pytest.mark.parametrize(("start", "middle"), KINDS)
@pytest.mark.parametrize("layer_scale", [True, False])
def test_bottlenecks_have_all_their_parameters(start: int | None, middle: int | None, layer_scale: bool) -> None:
    block = bottleneck(8, 32, 16, start_kernel=start, middle_kernel=middle, layer_scale=layer_scale)
    filters = (8 * start**2 + 2 * 8 if start else 0) + (32 * middle**2 + 2 * 32 if middle else 0)
    pointwise = 8 * 32 + 2 * 32 + 32 * 16 + 2 * 16
    assert sum(parameter.numel() for parameter in block.parameters()) == filters + pointwise + 16 * layer_scale
    assert not any(module.bias is not None for module in block.modules() if isinstance(module, nn.Conv2d))


def convolutions(block: nn.Module) -> list[tuple[int, int, int]]:
    return [(m.kernel_size[0], m.stride[0], m.groups) for m in block.modules() if isinstance(m, nn.Conv2d)]


def test_the_layers_stand_in_the_papers_order() -> None:
    block = bottleneck(8, 32, 8, start_kernel=5, middle_kernel=3)
    assert convolutions(block) == [(5, 1, 8), (1, 1, 1), (3, 1, 32), (1, 1, 1)]
    # An activation after the expansion and after the middle filter, none after the start filter and the projection.
    activated = [name for name, module in block.named_children() if hasattr(module, "activation")]
    assert activated == ["expand", "middle_depthwise"]


@pytest.mark.parametrize(
    ("start", "middle", "strides"), [(5, 3, [1, 1, 2, 1]), (5, None, [2, 1, 1]), (None, 3, [1, 2, 1])]
)
@pytest.mark.parametrize("size", [7, 8])
def test_the_last_depthwise_filter_takes_the_stride(
    start: int | None, middle: int | None, strides: list[int], size: int
) -> None:
    block = bottleneck(8, 32, 8, start_kernel=start, middle_kernel=middle, stride=2)
    assert [stride for _, stride, _ in convolutions(block)] == strides
    assert block(torch.randn(2, 8, size, size)).shape == (2, 8, 4, 4)
    assert not block.has_shortcut


def test_a_stride_needs_a_filter() -> None:
    with pytest.raises(ModelError, match="without depthwise filters can't have stride 2: give it a kernel"):
        bottleneck(8, 32, 8, start_kernel=None, middle_kernel=None, stride=2)


@pytest.mark.parametrize(("out_channels", "stride", "shortcut"), [(8, 1, True), (16, 1, False), (8, 2, False)])
def test_the_shortcut_needs_stride_and_channels(out_channels: int, stride: int, shortcut: bool) -> None:
    block = bottleneck(8, 32, out_channels, start_kernel=3, middle_kernel=3, stride=stride).eval()
    nn.init.zeros_(block.project.norm.weight)  # the branch is silent: what is left is the shortcut
    x = torch.randn(2, 8, 6, 6)
    with torch.inference_mode():
        assert torch.equal(block(x), x) == shortcut


def test_layer_scale_scales_the_branch_and_not_the_shortcut() -> None:
    torch.manual_seed(0)
    block = bottleneck(8, 32, 8, start_kernel=3, middle_kernel=None, layer_scale=True).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.inference_mode():
        nn.init.ones_(block.layer_scale.gamma)
        branch = block(x) - x
        factors = torch.linspace(-1, 2, 8)
        block.layer_scale.gamma.copy_(factors)
        torch.testing.assert_close(block(x), x + factors[:, None, None] * branch)


def test_layer_scale_starts_small_and_is_reset() -> None:
    scale = LayerScale(4)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(scale(x), LAYER_SCALE_START * x)
    nn.init.ones_(scale.gamma)
    scale.reset_parameters()
    torch.testing.assert_close(scale(x), LAYER_SCALE_START * x)


@pytest.mark.parametrize(("start", "middle"), KINDS)
@pytest.mark.parametrize("layer_scale", [True, False])
def test_the_gradient_is_that_of_differences(start: int | None, middle: int | None, layer_scale: bool) -> None:
    """The sum in place must not spoil what the backward pass keeps."""
    torch.manual_seed(0)
    smooth = bottleneck(
        4, 8, 4, start_kernel=start, middle_kernel=middle, layer_scale=layer_scale, activation=nn.Hardswish
    ).double()
    if layer_scale:
        nn.init.ones_(smooth.layer_scale.gamma)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(smooth, (x,))


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_the_fused_block_filters_while_it_expands(padding: str) -> None:
    block = FusedBottleneck(8, 32, 16, kernel=3, stride=2, norm=nn.BatchNorm2d, activation=relu, padding=padding)
    assert convolutions(block) == [(3, 2, 1), (1, 1, 1)]
    counted = count(block, (1, 8, 10, 10))
    assert counted.parameters == 8 * 32 * 9 + 2 * 32 + 32 * 16 + 2 * 16
    assert counted.macs == 25 * (8 * 32 * 9 + 32 * 16)
    assert hasattr(block.expand, "activation")
    assert not hasattr(block.project, "activation")
    assert block(torch.randn(2, 8, 7, 7)).shape == (2, 16, 4, 4)


@pytest.mark.parametrize(("start", "middle"), [(5, 3), (None, 3), (5, None)])
def test_same_padding_moves_the_grid_at_stride_2(start: int | None, middle: int | None) -> None:
    torch.manual_seed(0)
    blocks = [
        bottleneck(8, 32, 8, start_kernel=start, middle_kernel=middle, stride=2, padding=padding).eval()
        for padding in ("symmetric", "same")
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    with torch.inference_mode():
        even, odd = torch.randn(1, 8, 8, 8), torch.randn(1, 8, 7, 7)
        # Without the border, where the zeros differ too.
        assert not torch.allclose(blocks[0](even)[..., 1:-1, 1:-1], blocks[1](even)[..., 1:-1, 1:-1], atol=1e-3)
        torch.testing.assert_close(blocks[0](odd), blocks[1](odd))


def attention(channels: int = 12, heads: int = 3, head_channels: int = 5, kv_stride: int = 1) -> MultiQueryAttention:
    torch.manual_seed(0)
    layer = MultiQueryAttention(
        channels, heads=heads, head_channels=head_channels, kv_stride=kv_stride, norm=nn.BatchNorm2d
    )
    return layer.double().eval()


def by_definition(layer: MultiQueryAttention, x: Tensor) -> Tensor:
    """Head by head and place by place, as section 3.2 writes it."""
    queries, keys, values = layer.query(x), layer.key(x).flatten(2), layer.value(x).flatten(2)
    width = keys.shape[1]
    heard = torch.zeros_like(queries)
    for image in range(x.shape[0]):
        for head in range(layer.heads):
            own = slice(head * width, (head + 1) * width)
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    scores = queries[image, own, row, column] @ keys[image] / width**0.5
                    heard[image, own, row, column] = values[image] @ torch.softmax(scores, 0)
    return layer.output(heard)


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 4),
    head_channels=st.integers(1, 6),
    kv_stride=st.sampled_from([1, 2, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_it_is_attention_by_its_definition(
    heads: int, head_channels: int, kv_stride: int, height: int, width: int
) -> None:
    layer = attention(8, heads, head_channels, kv_stride)
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), by_definition(layer, x))


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_timm_gives_the_same_outputs(kv_stride: int) -> None:
    ours = attention(16, 4, 8, kv_stride)
    theirs = MultiQueryAttention2d(16, num_heads=4, key_dim=8, value_dim=8, kv_stride=kv_stride).double().eval()
    # In definition order, which is timm's.
    pairs = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(pairs))
    for size in (1, 2, 7, 12):
        x = torch.randn(2, 16, size, size, dtype=torch.float64)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kv_stride", [1, 2])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_the_smallest_maps_run_and_learn(size: int, kv_stride: int, padding: str) -> None:
    block = MobileAttention(
        8, heads=2, head_channels=4, kv_stride=kv_stride, layer_scale=True, norm=nn.BatchNorm2d, padding=padding
    )
    out = block(torch.randn(3, 8, size, size))
    assert out.shape == (3, 8, size, size)
    out.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in block.parameters())


def test_one_place_hears_itself() -> None:
    layer = attention()
    x = torch.randn(2, 12, 1, 1, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), layer.output(layer.value(x).repeat(1, layer.heads, 1, 1)))


def test_attention_does_not_know_where_a_place_is() -> None:
    layer = attention()
    x = torch.randn(1, 12, 4, 6, dtype=torch.float64)
    order = torch.randperm(24)
    shuffled = x.flatten(2)[..., order].unflatten(2, (4, 6))
    with torch.inference_mode():
        torch.testing.assert_close(layer(shuffled), layer(x).flatten(2)[..., order].unflatten(2, (4, 6)))


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_the_cost_of_attention_by_hand(kv_stride: int) -> None:
    """Multiply-adds of the projections, of the filters and of both matrix products; softmax is none."""
    channels, heads, width, places, kept = 16, 4, 8, 6 * 6, (6 // kv_stride) ** 2
    layer = attention(channels, heads, width, kv_stride)
    counted = count(layer, (1, channels, 6, 6))
    projections = 2 * places * channels * heads * width + 2 * kept * channels * width
    filters = 2 * kept * channels * 9 if kv_stride > 1 else 0
    products = 2 * heads * places * kept * width
    assert counted.macs == projections + filters + products
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        layer(torch.zeros(1, channels, 6, 6, dtype=torch.float64))
    assert flops.get_total_flops() == 2 * counted.macs


def test_attention_starts_as_glorot_says() -> None:
    layer = attention(64, 8, 32)
    for convolution in (layer.query, layer.key.project, layer.value.project, layer.output):
        out_channels, in_channels = convolution.weight.shape[:2]
        limit = (6 / (in_channels + out_channels)) ** 0.5
        assert convolution.bias is None
        assert 0.95 * limit < convolution.weight.abs().max() <= limit


@pytest.mark.parametrize("layer_scale", [True, False])
def test_the_attention_block_adds_what_its_norm_heard(layer_scale: bool) -> None:
    torch.manual_seed(0)
    block = MobileAttention(
        8, heads=2, head_channels=4, kv_stride=2, layer_scale=layer_scale, norm=nn.BatchNorm2d
    ).double()
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    factor = 1e-5 if layer_scale else 1.0
    block.eval()
    normed = F.batch_norm(x, torch.zeros(8).double(), torch.ones(8).double())
    with torch.inference_mode():
        torch.testing.assert_close(block(x), x + factor * block.attention(normed))


@pytest.mark.parametrize("layer_scale", [True, False])
def test_the_gradient_of_attention_is_that_of_differences(layer_scale: bool) -> None:
    """The sum in place must not spoil what the backward pass keeps."""
    torch.manual_seed(0)
    block = MobileAttention(
        4, heads=2, head_channels=3, kv_stride=2, layer_scale=layer_scale, norm=nn.BatchNorm2d
    ).double()
    if layer_scale:
        nn.init.ones_(block.layer_scale.gamma)
    assert torch.autograd.gradcheck(block, (torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True),))
