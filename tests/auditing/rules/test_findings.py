from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.auditing.rules.context import Diagnostic, Finding, Severity
from mobilenets.auditing.rules.findings import account
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.differences import NetworkComparison, NetworkDifference
from mobilenets.auditing.structure.layers import BatchNorm, Chain, ChainLayer, Grouping, UnplacedOperator
from mobilenets.auditing.structure.nearest import compare
from mobilenets.auditing.structure.published import reference

Edit = Callable[[list[ChainLayer]], None]


def network(edit: Edit | None = None, name: str = "mobilenet_v2", width: float = 1.0) -> Chain:
    """The published chain with an edit of its layers, and the totals such a network has."""
    chain = reference(name, width_mult=width).chain
    layers = list(chain.layers)
    if edit is not None:
        edit(layers)
    found = replace(chain, layers=tuple(layers))
    cost = chain_cost(found)
    return replace(found, parameters=cost.parameters, macs=cost.macs)


def diagnostics(*groups: Sequence[NetworkDifference]) -> list[Diagnostic]:
    return [Diagnostic("rule", Severity.ERROR, (), "", "", "", "", "", tuple(group)) for group in groups]


def against(found: Chain, name: str = "mobilenet_v2", width: float = 1.0) -> NetworkComparison:
    return compare(found, expect=name, width_mult=width)


def only_finding(found: Chain, name: str = "mobilenet_v2", width: float = 1.0) -> Finding:
    comparison = against(found, name, width)
    findings, parameters, macs = account(comparison, diagnostics(comparison.differences))
    assert (parameters, macs) == (0, 0)
    return findings[0]


def keep_expansion(layers: list[ChainLayer]) -> None:
    layers.insert(1, replace(layers[0], kernel=1, stride=1))


def test_the_kept_expansion_costs_what_the_article_wonders_at() -> None:
    found = network(keep_expansion)
    assert (found.parameters, round(found.macs / 1e6, 2)) == (3_505_960, 313.62)
    finding = only_finding(found)
    assert (finding.parameters, finding.macs) == (1_088, 32 * 32 * 112 * 112)
    assert finding.detail == "32x32 weights + 64 of batch norm"


def test_shifted_strides_cost_multiply_adds_alone() -> None:
    strides = {index: layer.stride for index, layer in enumerate(reference("mobilenet_v2").chain.layers)}
    assert [index for index, stride in strides.items() if stride == 2] == [0, 4, 10, 19, 40]

    def shift(layers: list[ChainLayer]) -> None:
        layers[19] = replace(layers[19], stride=1)
        layers[31] = replace(layers[31], stride=2)

    found = network(shift)
    assert (found.parameters, round(found.macs / 1e6, 2)) == (3_504_872, 416.27)
    finding = only_finding(found)
    assert (finding.parameters, finding.macs, finding.detail) == (0, found.macs - 300_774_272, "")


def test_a_missing_layer_says_what_it_would_have_had() -> None:
    finding = only_finding(network(lambda layers: layers.__delitem__(51)))
    assert finding.parameters < 0
    extra = only_finding(network(lambda layers: layers.__delitem__(-2), "mobilenet_v3_small"), "mobilenet_v3_small")
    assert "weights" in extra.detail


def test_a_fault_in_every_layer_is_told_by_its_parts() -> None:
    def biases(layers: list[ChainLayer]) -> None:
        layers[:] = [replace(layer, bias=True) for layer in layers]

    finding = only_finding(network(biases))
    assert finding.detail == f"+{finding.parameters:,} biases"

    def dense(layers: list[ChainLayer]) -> None:
        layers[1] = replace(layers[1], grouping=Grouping.DENSE)

    assert only_finding(network(dense)).detail == f"+{32 * 31 * 9:,} weights"


def test_folded_norms_trade_norms_for_biases() -> None:
    def fold(layers: list[ChainLayer]) -> None:
        layers[:] = [replace(layer, norms=(), bias=True) for layer in layers]

    finding = only_finding(network(fold))
    assert finding.parameters == -17_056
    assert finding.detail == "-34,112 of batch norm + 17,056 biases"


def test_what_no_diagnostic_explains_is_said() -> None:
    found = network(keep_expansion)
    findings, parameters, macs = account(against(found), [])
    assert (findings, parameters, macs) == ((), 1_088, 12_845_056)


def test_parameters_outside_the_layers_are_explained_by_who_names_them() -> None:
    found = replace(network(), parameters=3_504_872 + 4_160 + 10, unfolded=(UnplacedOperator("odd", "cumsum", 10),))
    comparison = against(found)
    unused = NetworkDifference(None, "unused", (), (("spare.weight", 4_096), ("spare.bias", 64)))
    findings, parameters, macs = account(comparison, diagnostics(comparison.differences, [unused]))
    assert [finding.parameters for finding in findings] == [10, 4_160]
    assert findings[1].detail == "4,160 outside the layers"
    assert (parameters, macs) == (0, 0)


def test_a_difference_without_cost_costs_nothing() -> None:
    def eps(layers: list[ChainLayer]) -> None:
        layers[0] = replace(layers[0], norms=(BatchNorm(1e-3, 0.1),))

    finding = only_finding(network(eps))
    assert (finding.parameters, finding.macs, finding.detail) == (0, 0, "")


EDITS: tuple[dict[str, object], ...] = (
    {"out_channels": 40},
    {"kernel": 5},
    {"stride": 2},
    {"grouping": Grouping.DENSE},
    {"bias": True},
    {"norms": ()},
    {"squeeze": None},
    {"shortcut": None},
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")))
def test_findings_add_up_however_differences_are_shared_out(data: st.DataObject, name: str) -> None:
    def edit(layers: list[ChainLayer]) -> None:
        for _ in range(data.draw(st.integers(1, 5))):
            index = data.draw(st.integers(0, len(layers) - 1))
            layers[index] = replace(layers[index], **data.draw(st.sampled_from(EDITS)))  # type: ignore[arg-type]
        if data.draw(st.booleans()):
            del layers[data.draw(st.integers(1, len(layers) - 2))]
        if data.draw(st.booleans()):
            layers.insert(data.draw(st.integers(1, len(layers) - 1)), ChainLayer(24, kernel=3, stride=1))

    found = network(edit, name)
    comparison = against(found, name)
    shuffled = data.draw(st.permutations(comparison.differences))
    cut = data.draw(st.integers(0, len(shuffled)))
    findings, parameters, macs = account(comparison, diagnostics(shuffled[:cut], shuffled[cut:]))
    assert (parameters, macs) == (0, 0)
    published = comparison.reference.chain
    assert sum(finding.parameters for finding in findings) == found.parameters - published.parameters
    assert sum(finding.macs for finding in findings) == found.macs - published.macs


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [("mobilenet_v2", 1.4, 5_366_376), ("mobilenet_v2", 1.3, 4_842_280), ("mobilenet_v2", 0.35, 750_280)],
)
def test_heads_of_another_width_have_the_known_counts(name: str, width: float, parameters: int) -> None:
    head = 1280 if width > 1 else 448

    def scaled(layers: list[ChainLayer]) -> None:
        layers[-2] = replace(layers[-2], out_channels=head)

    found = network(scaled, name, width)
    assert found.parameters == parameters
    finding = only_finding(found, name, width)
    assert finding.parameters == parameters - reference(name, width_mult=width).chain.parameters
