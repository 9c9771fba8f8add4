from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mobilenets.models.layers import (
    ConvNormActivation,
    DepthwiseSeparable,
    InvertedResidual,
    Normalizer,
    SqueezeExcitation,
    hard_swish,
    make_divisible,
    relu,
    relu6,
)
from mobilenets.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (1, 8),
        (8, 8),
        (11.2, 16),
        (12, 16),
        (18, 24),
        (28, 32),
        (56, 56),
        (89.6, 88),
        (33.6, 32),
        (448, 448),
        (1792, 1792),
    ],
)
def test_make_divisible_examples(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded


@given(st.floats(min_value=0.1, max_value=1e6))
def test_make_divisible_rounds_to_the_nearest_but_never_far_down(channels: float) -> None:
    rounded = make_divisible(channels)
    assert rounded % 8 == 0
    assert rounded >= max(8, 0.9 * channels)
    nearest = max(8, math.floor(channels / 8 + 0.5) * 8)
    assert rounded == (nearest if nearest >= 0.9 * channels else nearest + 8)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_only_the_stride_changes_the_size(kernel: int, stride: int, size: int) -> None:
    layer = ConvNormActivation(3, 8, kernel=kernel, stride=stride)
    assert layer(torch.zeros(2, 3, size, size)).shape == (2, 8, math.ceil(size / stride), math.ceil(size / stride))


def test_a_bias_only_where_nothing_normalizes() -> None:
    normalized, plain = ConvNormActivation(3, 8), ConvNormActivation(3, 8, norm=None)
    assert [name for name, _ in normalized.named_parameters()] == ["conv.weight", "norm.weight", "norm.bias"]
    assert [name for name, _ in plain.named_parameters()] == ["conv.weight", "conv.bias"]


def test_no_activation_leaves_the_output_linear() -> None:
    torch.manual_seed(0)
    linear = ConvNormActivation(3, 8, activation=None).eval()
    x, y = torch.randn(2, 1, 3, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(linear(x + y), linear(x) + linear(y))
        assert linear(x).min() < 0


def test_hard_swish_is_the_papers() -> None:
    x = torch.linspace(-6, 6, 241)
    torch.testing.assert_close(hard_swish()(x), x * F.relu6(x + 3) / 6)


def test_squeeze_excitation_scales_each_channel_by_its_gate() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcitation(16, 8)
    x = torch.randn(2, 16, 5, 5)
    squeezed = F.relu(x.mean((2, 3)) @ layer.reduce.weight.flatten(1).T + layer.reduce.bias)
    assert isinstance(layer.expand.bias, nn.Parameter)
    gate = F.relu6(squeezed @ layer.expand.weight.flatten(1).T + layer.expand.bias + 3) / 6
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(image_size=6),
        Preprocessing(image_size=6, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Preprocessing(image_size=6, channels=1, mean=(0.1,), std=(0.3,)),
    ],
)
def test_the_normalizer_gives_the_figures_of_preprocessing_without_pytorch(preprocessing: Preprocessing) -> None:
    shape = (4, 6, 6, preprocessing.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mine = Normalizer(preprocessing)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(mine, preprocessing.normalize(images), atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), (1, (0.1,), (0.3,))]
)
def test_a_normalized_batch_has_the_very_values_in_the_same_layout(
    channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    preprocessing = Preprocessing(9, channels=channels, mean=mean, std=std)
    images = torch.randint(0, 256, (5, 7, 9, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalize = Normalizer(preprocessing)
    found, expected = normalize.batch(images), normalize(images)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    assert torch.equal(normalize.batch(images[:, :, ::2]), normalize(images[:, :, ::2]))


def test_the_normalizers_constants_are_no_weights() -> None:
    assert not Normalizer(Preprocessing(image_size=6)).state_dict()


def inverted_residual(in_channels: int, hidden: int, out_channels: int, **changes: Any) -> InvertedResidual:
    arguments: dict[str, Any] = {"kernel": 3, "stride": 1, "squeeze_channels": None, "norm": nn.BatchNorm2d}
    return InvertedResidual(in_channels, hidden, out_channels, **{"activation": relu6, **arguments, **changes})


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "stride", "shortcut"),
    [(16, 16, 1, True), (16, 16, 2, False), (16, 24, 1, False), (16, 24, 2, False)],
)
def test_the_shortcut_needs_stride_1_and_equal_channels(
    in_channels: int, out_channels: int, stride: int, shortcut: bool
) -> None:
    torch.manual_seed(0)
    block = inverted_residual(in_channels, 96, out_channels, stride=stride).eval()
    x = torch.randn(2, in_channels, 9, 9)
    with torch.no_grad():
        body = nn.Sequential.forward(block, x)  # type: ignore[no-untyped-call]
        difference = block(x) - body
    assert block.has_shortcut is shortcut
    torch.testing.assert_close(difference, x if shortcut else torch.zeros_like(body))


def test_equal_width_has_nothing_to_expand() -> None:
    assert [name for name, _ in inverted_residual(16, 16, 24).named_children()] == ["depthwise", "project"]
    assert [name for name, _ in inverted_residual(16, 96, 24).named_children()] == ["expand", "depthwise", "project"]


def test_squeeze_excitation_sits_between_the_depthwise_activation_and_the_projection() -> None:
    block = inverted_residual(16, 96, 24, squeeze_channels=24)
    assert [name for name, _ in block.named_children()] == ["expand", "depthwise", "squeeze_excite", "project"]
    assert [name for name, _ in block.depthwise.named_children()] == ["conv", "norm", "activation"]


def test_the_projection_is_linear() -> None:
    block = inverted_residual(16, 96, 24)
    assert [name for name, _ in block.project.named_children()] == ["conv", "norm"]


def test_depthwise_separable_is_a_filter_per_channel_and_a_mix() -> None:
    block = DepthwiseSeparable(16, 24, stride=2, norm=nn.BatchNorm2d, activation=relu)
    depthwise, pointwise = block.depthwise.conv, block.pointwise.conv
    assert depthwise.weight.shape == (16, 1, 3, 3)
    assert depthwise.groups == 16
    assert pointwise.weight.shape == (24, 16, 1, 1)
    assert block(torch.zeros(2, 16, 9, 9)).shape == (2, 24, 5, 5)


def out_of_place(block: nn.Module) -> nn.Module:
    other = copy.deepcopy(block)
    for module in other.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return other


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("squeeze_channels", [None, 8])
@pytest.mark.parametrize("activation", [relu, relu6, hard_swish])
def test_working_in_place_gives_the_right_gradients(
    training: bool, squeeze_channels: int | None, activation: Any
) -> None:
    torch.manual_seed(0)
    block = inverted_residual(8, 32, 8, squeeze_channels=squeeze_channels, activation=activation)
    block.train(training)
    other = out_of_place(block)
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    # The first operation leaves the leaf alone, as the network's earlier layers do.
    answer: Tensor = block(x * 1)
    expected: Tensor = nn.Sequential.forward(other, y) + y  # type: ignore[arg-type, no-untyped-call]
    torch.testing.assert_close(answer, expected)
    weights = torch.randn_like(answer)
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for (name, ours), theirs in zip(block.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")
