from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import MultiQueryAttention2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mobilenets.auditing.count import count
from mobilenets.models.attention import MobileAttention, MultiQueryAttention


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


def test_it_does_not_know_where_a_place_is() -> None:
    layer = attention()
    x = torch.randn(1, 12, 4, 6, dtype=torch.float64)
    order = torch.randperm(24)
    shuffled = x.flatten(2)[..., order].unflatten(2, (4, 6))
    with torch.inference_mode():
        torch.testing.assert_close(layer(shuffled), layer(x).flatten(2)[..., order].unflatten(2, (4, 6)))


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_its_cost_by_hand(kv_stride: int) -> None:
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


def test_it_starts_as_glorot_says() -> None:
    layer = attention(64, 8, 32)
    for convolution in (layer.query, layer.key.project, layer.value.project, layer.output):
        out_channels, in_channels = convolution.weight.shape[:2]
        limit = (6 / (in_channels + out_channels)) ** 0.5
        assert convolution.bias is None
        assert 0.95 * limit < convolution.weight.abs().max() <= limit


@pytest.mark.parametrize("layer_scale", [True, False])
def test_the_block_adds_what_its_norm_heard(layer_scale: bool) -> None:
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
def test_the_gradient_is_that_of_differences(layer_scale: bool) -> None:
    """The sum in place must not spoil what the backward pass keeps."""
    torch.manual_seed(0)
    block = MobileAttention(
        4, heads=2, head_channels=3, kv_stride=2, layer_scale=layer_scale, norm=nn.BatchNorm2d
    ).double()
    if layer_scale:
        nn.init.ones_(block.layer_scale.gamma)
    assert torch.autograd.gradcheck(block, (torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True),))
