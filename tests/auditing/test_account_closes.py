"""Networks with unforeseen changes: whatever was changed, its parameters and multiply-adds belong to a finding."""

from __future__ import annotations

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS, Beside, Mutation, Padded
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small
from torchvision.ops import FrozenBatchNorm2d

from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.result import Audit
from mobilenets.auditing.rules.context import Finding, Severity
from mobilenets.auditing.rules.findings import account, apply_rules
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.nearest import compare
from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow

V2_ROWS = [[6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


def findings(network: nn.Module, size: int = 224) -> tuple[tuple[Finding, ...], int, int]:
    """What the graph alone shows, and what stays unexplained."""
    graph = export_graph(network, (1, 3, size, size))
    comparison = compare(fold(graph))
    return account(comparison, apply_rules(comparison, unused=graph.unused))


def errors(network: nn.Module, size: int = 224) -> list[Finding]:
    """The errors; the account has to close."""
    found, *unexplained = findings(network, size)
    assert unexplained == [0, 0]
    return [one for one in found if one.diagnostic.severity is Severity.ERROR]


@settings(max_examples=5, deadline=None)
@given(
    make=st.sampled_from((mobilenet_v2, mobilenet_v3_small)),
    changes=st.lists(st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 59)), min_size=1, max_size=3),
    size=st.sampled_from((64, 75)),
)
def test_any_changes_are_explained(make: type[nn.Module], changes: list[tuple[Mutation, int]], size: int) -> None:
    network = make()
    for change, where in changes:
        change(network, where)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError:  # the changes do not go together: no network
        return
    errors(network, size)


def test_a_shortcut_of_two_convolutions_is_one_finding() -> None:
    network = mobilenet_v2()
    side = [nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.BatchNorm2d(16)]
    side += [nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24)]
    network.features[2] = Beside(network.features[2], nn.Sequential(*side))
    (error,) = errors(network)
    assert (error.diagnostic.rule, error.parameters, error.macs) == ("shortcut-downsampled", 608, 1_655_808)


def test_zeros_in_front_of_the_expansion_are_one_finding() -> None:
    network = mobilenet_v2()
    for index in range(2, 18):
        block = network.features[index]
        block.conv[1][0].padding = (0, 0)
        block.conv = Padded(block.conv, (1, 1, 1, 1))
    (error,) = errors(network)
    assert (error.diagnostic.rule, error.parameters, error.macs) == ("padding-place", 0, 35_005_440)


def test_a_padded_stem_of_one_pixel_is_two_findings() -> None:
    network = mobilenet_v2(num_classes=10)
    network.features[0][0] = nn.Conv2d(3, 32, 1, 1, 1, bias=False)
    network.features[2].conv[1][0].stride = (1, 1)
    kernel, padding = errors(network)
    assert (kernel.diagnostic.rule, kernel.parameters, kernel.macs) == ("kernel", -768, -38_535_168)
    assert (padding.diagnostic.rule, padding.diagnostic.found) == ("padding", "1 pixel of zeros on each side")
    assert padding.macs == 175_380_240


@pytest.mark.parametrize(("ratio", "parameters"), [(6, 10_848), (3, 4_992)])
def test_another_ratio_where_the_table_has_one(ratio: int, parameters: int) -> None:
    network = mobilenet_v2(inverted_residual_setting=[[ratio, 16, 1, 1], *V2_ROWS])
    (error,) = errors(network)
    assert (error.diagnostic.rule, error.parameters) == ("expand-ratio", parameters)
    assert error.diagnostic.found.startswith(f"t={ratio}: 32 -> {32 * ratio}")
    assert error.diagnostic.fix != "remove the layer"


def test_no_expansion_where_the_table_has_one() -> None:
    network = mobilenet_v2(inverted_residual_setting=[[1, 16, 1, 1], [1, *V2_ROWS[0][1:]], *V2_ROWS[1:]])
    (error,) = errors(network)
    assert (error.diagnostic.rule, error.diagnostic.found) == ("expand-ratio", "t=1: no expansion layer")


@pytest.mark.parametrize("size", [150, 300])
def test_tensorflows_padding_is_no_error_at_any_size(size: int) -> None:
    assert errors(timm.create_model("tf_mobilenetv3_small_100"), size) == []


def test_a_frozen_norm_is_a_note_and_keeps_its_eps() -> None:
    found, *unexplained = findings(mobilenet_v2(norm_layer=FrozenBatchNorm2d), 96)
    assert unexplained == [0, 0]
    frozen = next(one for one in found if one.diagnostic.rule == "norms-frozen")
    assert (frozen.diagnostic.severity, frozen.parameters) == (Severity.NOTE, -34_112)
    assert not any("norm-eps" in one.diagnostic.rule or one.diagnostic.severity is Severity.ERROR for one in found)


class Gated(nn.Module):
    """Squeeze-and-excitation without biases, with batch norms, and with a pool of its own."""

    def __init__(self, channels: int, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.pool = pool or nn.AdaptiveAvgPool2d(1)
        down, up = nn.Conv2d(channels, channels // 4, 1, bias=False), nn.Conv2d(channels // 4, channels, 1, bias=False)
        norms = nn.BatchNorm2d(channels // 4), nn.BatchNorm2d(channels)
        self.gate = nn.Sequential(down, norms[0], nn.ReLU(), up, norms[1], nn.Hardsigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.pool(x))


def test_the_form_of_a_squeeze_where_none_belongs() -> None:
    network = mobilenet_v2()
    network.features[2].conv[1].append(Gated(96))
    assert [one.diagnostic.rule for one in errors(network)] == ["se-extra", "se-form"]


def test_a_squeeze_over_a_fixed_window() -> None:
    network = mobilenet_v2()
    network.features[2].conv[1].append(Gated(96, nn.AvgPool2d(56)))
    rules = {one.diagnostic.rule: one.diagnostic.found for one in errors(network)}
    assert rules["se-pool-fixed"] == "a window fixed in the code: 56x56"


def test_the_papers_squeeze_on_the_head_of_small_is_a_note() -> None:
    network = mobilenet_v3_small()
    network.features[12].append(Gated(576))
    rules = {one.diagnostic.rule: one.diagnostic for one in findings(network)[0]}
    assert rules["se-extra"].severity is Severity.NOTE
    assert "marks it" in rules["se-extra"].found


@pytest.fixture
def biased() -> Audit:
    network = mobilenet_v2()
    for module in network.features.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return audit(network, image_size=96)


def test_a_bias_beside_a_norm_claims_no_loss(biased: Audit) -> None:
    (error,) = biased.errors
    assert error.diagnostic.rule == "bias-with-norm"
    assert "points" not in error.diagnostic.effect
