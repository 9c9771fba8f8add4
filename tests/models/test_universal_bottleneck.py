from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from mobilenets.auditing.count import count
from mobilenets.errors import ModelError
from mobilenets.models.layers import relu
from mobilenets.models.universal_bottleneck import LAYER_SCALE_START, FusedBottleneck, LayerScale, UniversalBottleneck

bottleneck = partial(UniversalBottleneck, stride=1, layer_scale=False, norm=nn.BatchNorm2d, activation=relu)
KINDS = [(5, 3), (None, 3), (5, None), (None, None)]


@pytest.mark.parametrize(("start", "middle"), KINDS)
@pytest.mark.parametrize("layer_scale", [True, False])
def test_it_has_the_parameters_of_its_layers(start: int | None, middle: int | None, layer_scale: bool) -> None:
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


def test_layer_scale_starts_small_and_starts_anew() -> None:
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
