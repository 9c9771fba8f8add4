from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilenets.auditing.count import count
from mobilenets.models.layers import ConvNormActivation, DepthwiseSeparable, SqueezeExcitation, relu
from mobilenets.models.mobilenet_v1 import ROWS
from mobilenets.models.registry import create_model, list_models


def test_the_papers_example() -> None:
    """256 outputs, 3x3: 1/256 + 1/9 = 0.115, 8.7 times cheaper."""
    block = DepthwiseSeparable(64, 256, stride=1, norm=nn.BatchNorm2d, activation=relu)
    (pair,) = count(block, (64, 14, 14)).separable_pairs
    assert pair.ratio == 1 / 256 + 1 / 9
    assert round(pair.ratio, 3) == 0.115
    assert round(1 / pair.ratio, 1) == 8.7


@settings(max_examples=30, deadline=None)
@given(
    in_channels=st.integers(2, 64),
    out_channels=st.integers(1, 64),
    kernel=st.sampled_from([(3, 3), (5, 5), (7, 7), (1, 3)]),
    stride=st.sampled_from([1, 2, 3]),
    size=st.integers(7, 40),
    bias=st.booleans(),
)
def test_the_formula(
    in_channels: int, out_channels: int, kernel: tuple[int, int], stride: int, size: int, bias: bool
) -> None:
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, stride=stride, groups=in_channels, bias=bias)
    pair_net = nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1, bias=bias))
    counted = count(pair_net, (1, in_channels, size, size))
    standard = count(
        nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride=stride, bias=bias)),
        (1, in_channels, size, size),
    )
    (pair,) = counted.separable_pairs
    assert (pair.in_channels, pair.out_channels, pair.kernel) == (in_channels, out_channels, kernel)
    assert Fraction(pair.macs, pair.standard_macs) == Fraction(1, out_channels) + Fraction(1, kernel[0] * kernel[1])
    assert counted.standard_macs == pair.standard_macs == standard.macs
    assert counted.standard_parameters == pair.standard_parameters == standard.parameters


def standard_v1(width_mult: float) -> nn.Module:
    """V1 as it would be with standard convolutions, built rather than computed."""
    width = [int(channels * width_mult) for channels in (32, *(row.out_channels for row in ROWS))]
    layers: list[nn.Module] = [ConvNormActivation(3, width[0], kernel=3, stride=2)]
    for row, before, after in zip(ROWS, width, width[1:], strict=False):
        layers.append(ConvNormActivation(before, after, kernel=3, stride=row.stride))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width[-1], 1000))


@pytest.mark.parametrize("width_mult", [1.0, 0.5])
def test_the_whole_network_with_standard_convolutions(width_mult: float) -> None:
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v1", width_mult=width_mult))
        standard = count(standard_v1(width_mult), (3, 224, 224))
    assert len(counted.separable_pairs) == 13
    assert counted.standard_macs == standard.macs
    assert counted.standard_parameters == standard.parameters
    assert not standard.separable_pairs
    assert standard.standard_macs == standard.macs


def test_table_4_of_the_paper() -> None:
    """Conv MobileNet: 4,866 M multiply-adds (the classifier's 1 M left out) and 29.3 M parameters."""
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v1"))
    assert round((counted.standard_macs - 1024 * 1000) / 1e6) == 4866
    assert round(counted.standard_parameters / 1e6, 1) == 29.3


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("image_size", [32, 224])
def test_every_depthwise_convolution_has_its_pair(name: str, image_size: int) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=image_size)
    pairs = count(model).separable_pairs
    # Squeeze-and-excitation, between the two, has 1x1 convolutions of its own.
    convolutions = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and "squeeze_excite" not in path
    }
    depthwise = [path for path, module in convolutions.items() if module.groups > 1]
    following = dict(pairwise(convolutions))
    assert [pair.depthwise for pair in pairs] == depthwise
    assert [pair.pointwise for pair in pairs] == [following[path] for path in depthwise]
    for pair in pairs:
        kernel = pair.kernel[0] * pair.kernel[1]
        assert Fraction(pair.macs, pair.standard_macs) == Fraction(1, pair.out_channels) + Fraction(1, kernel)


def test_attention_between_the_two_is_kept_and_not_taken_for_the_pointwise_one() -> None:
    depthwise = nn.Conv2d(16, 16, 3, groups=16, bias=False)
    network = nn.Sequential(depthwise, SqueezeExcitation(16, 8), nn.Conv2d(16, 24, 1, bias=False))
    for size in (9, 3):  # at 3 the map is 1x1, as the attention's own
        counted = count(network, (16, size, size))
        (pair,) = counted.separable_pairs
        assert (pair.depthwise, pair.pointwise) == ("0", "2")
        attention = 2 * 16 * 8 + 16 + 8
        assert counted.standard_parameters == 16 * 24 * 9 + attention


def test_what_lies_between_must_leave_positions_alone() -> None:
    depthwise, pointwise = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1)
    assert count(nn.Sequential(depthwise, nn.Hardswish(), pointwise), (8, 9, 9)).separable_pairs
    assert not count(nn.Sequential(depthwise, nn.MaxPool2d(2), pointwise), (8, 9, 9)).separable_pairs
    assert not count(nn.Sequential(depthwise, nn.Conv2d(8, 16, 1, stride=2)), (8, 9, 9)).separable_pairs
    assert not count(nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), pointwise), (8, 9, 9)).separable_pairs


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = DepthwiseSeparable(8, 8, stride=1, norm=nn.BatchNorm2d, activation=relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))  # type: ignore[no-any-return]


def test_a_pair_run_twice_costs_twice_and_weighs_once() -> None:
    once, twice = count(Twice().block, (8, 9, 9)), count(Twice(), (8, 9, 9))
    assert len(twice.separable_pairs) == 1
    assert twice.standard_macs == 2 * once.standard_macs
    assert twice.standard_parameters == once.standard_parameters
