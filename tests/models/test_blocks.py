from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mobilenets.models.blocks import DepthwiseSeparable, InvertedResidual
from mobilenets.models.layers import hard_swish, relu, relu6


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
