"""From a comparison to findings: the checks in their order, and what each diagnostic costs.

The findings add up to the whole difference from the published network. The differences that a diagnostic explains are
applied to the published layers, one diagnostic after another; what the sums of parameters and multiply-adds change by
at each step is the diagnostic's cost. Once all are applied, the layers are the found ones, so the steps add up exactly.
What is no layer (unused parameters, operators without a place) stays unexplained unless a diagnostic names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilenets.auditing.graph.nodes import Behaviour
from mobilenets.auditing.rules import (
    activations,
    behaviour,
    channels,
    expansion,
    form,
    leftover,
    network,
    norms,
    shortcuts,
    squeeze,
    strides,
)
from mobilenets.auditing.rules.context import Diagnostic, Finding, RuleContext
from mobilenets.auditing.rules.leftover import NOT_A_MOBILENET
from mobilenets.auditing.rules.registry import RULES
from mobilenets.auditing.structure.cost import LayerCost, cost
from mobilenets.auditing.structure.differences import (
    NetworkComparison,
    NetworkDifference,
    PartialChain,
    apply,
    published,
)
from mobilenets.auditing.structure.layers import ChainLayer, Grouping, UnplacedOperator

MODULES = (
    activations,
    behaviour,
    channels,
    expansion,
    form,
    network,
    norms,
    shortcuts,
    squeeze,
    strides,
    leftover,
)
"""The files with rules: importing them registers theirs."""


def apply_rules(
    comparison: NetworkComparison,
    *,
    seen: Behaviour | None = None,
    front_end: str = "torch.export",
    unused: tuple[tuple[str, int], ...] = (),
) -> tuple[Diagnostic, ...]:
    """Every difference and every odd behaviour as a diagnostic; each difference is in exactly one.

    Args:
        comparison: the network beside the published one.
        seen: what probing it showed; None where nothing was run.
        front_end: what read it, as `Graph.front_end`.
        unused: paths and sizes of parameters no operator reads.
    """
    context = RuleContext(comparison, seen, front_end, unused, comparison.differences)
    diagnostics: list[Diagnostic] = []
    for check in RULES.checks():
        if check.reads and not context.has(check.reads):
            continue
        recognized = check.function(context)
        diagnostics += recognized
        if any(one.rule == NOT_A_MOBILENET for one in recognized):
            # What else there is to say would compare it with a network it was never meant to be.
            break
        context = context.without(recognized)
    return tuple(diagnostics)


PARTS = {
    "weights": "weights",
    "norms": "of batch norm",
    "biases": "biases",
    "squeeze": "of squeeze-and-excitation",
    "shortcut": "of the shortcut's layers",
    "layer_scale": "of layer scale",
    "attention": "of attention",
    "other": "of layers of another form",
}
"""Parameters of a `LayerCost` field, in words."""
OUTSIDE = ("unfolded", "unused")
"""Attributes of the network's own differences that belong to no layer: operators, or paths and their parameters."""


def account(comparison: NetworkComparison, diagnostics: Sequence[Diagnostic]) -> tuple[tuple[Finding, ...], int, int]:
    """Give every diagnostic its cost.

    A diagnostic may name, besides differences of the comparison, unused parameters:
    `NetworkDifference(None, "unused", (), ((path, elements), ...))`.

    Returns:
        The findings in the order of the diagnostics; the parameters and the multiply-adds that none explains. The three
        add up to the found network's total minus the published one's.
    """
    found, reference = comparison.found.parameters, comparison.reference.chain.parameters
    found_macs, reference_macs = comparison.found.macs, comparison.reference.chain.macs
    if any(diagnostic.rule == NOT_A_MOBILENET for diagnostic in diagnostics):
        # Compared with a network it has nothing to do with, its layers' costs mean nothing.
        parameters, macs = found - reference, found_macs - reference_macs
        return tuple(_of_another_network(diagnostic, parameters, macs) for diagnostic in diagnostics), 0, 0
    findings = _findings(comparison, diagnostics)
    unexplained = found - reference - sum(finding.parameters for finding in findings)
    return findings, unexplained, found_macs - reference_macs - sum(finding.macs for finding in findings)


def _of_another_network(diagnostic: Diagnostic, parameters: int, macs: int) -> Finding:
    """The whole difference is that it is another network; what else is said of it explains none of that."""
    return Finding(diagnostic, parameters, macs) if diagnostic.rule == NOT_A_MOBILENET else Finding(diagnostic, 0, 0)


def _findings(comparison: NetworkComparison, diagnostics: Sequence[Diagnostic]) -> tuple[Finding, ...]:
    image_size = comparison.reference.chain.image_size
    partial = published(comparison.slots, comparison.reference)
    before = _cost(partial, image_size)
    findings = []
    for diagnostic in diagnostics:
        partial = apply(partial, diagnostic.differences)
        after = _cost(partial, image_size)
        outside, outside_macs = _outside(diagnostic.differences)
        detail = _detail(diagnostic.differences, before, after)
        if outside:
            detail = " + ".join(filter(None, [detail, f"{outside:,} outside the layers"]))
        parameters = after.parameters - before.parameters + outside
        findings.append(Finding(diagnostic, parameters, after.macs - before.macs + outside_macs, detail))
        before = after
    return tuple(findings)


@dataclass(frozen=True)
class _SlotCosts:
    """What a partial costs, and each of its layers by its slot."""

    slots: dict[int, tuple[ChainLayer, LayerCost]]
    parameters: int
    macs: int


def _cost(partial: PartialChain, image_size: int) -> _SlotCosts:
    layers = partial.chain_layers()
    total = cost(layers, in_channels=partial.in_channels, image_size=image_size, pooling=partial.pooling)
    present = [index for index, layer in enumerate(partial.layers) if layer is not None]
    slots = dict(zip(present, zip(layers, total.layers, strict=True), strict=True))
    return _SlotCosts(slots, total.parameters, total.macs)


def _outside(differences: Sequence[NetworkDifference]) -> tuple[int, int]:
    """Parameters and multiply-adds that belong to no layer: of operators without a place, or unused."""
    entries = [
        entry if isinstance(entry, UnplacedOperator) else UnplacedOperator(entry[0], "unused", entry[1])
        for one in differences
        if one.slot is None and one.attribute in OUTSIDE and isinstance(one.found, tuple)
        for entry in one.found
    ]
    return sum(entry.parameters for entry in entries), sum(entry.macs for entry in entries)


def _detail(differences: Sequence[NetworkDifference], before: _SlotCosts, after: _SlotCosts) -> str:
    """How the parameters come about; empty when they do not change."""
    if before.parameters == after.parameters:
        return ""
    come_or_gone = [one.slot for one in differences if one.attribute == "layer" and one.slot is not None]
    if len(come_or_gone) == 1:
        layer = _one_layer(come_or_gone[0], before, after)
        if layer:
            return layer
    return _by_part(before, after)


def _one_layer(slot: int, before: _SlotCosts, after: _SlotCosts) -> str:
    """`32x32 weights + 64 of batch norm`; empty when other layers change with this one."""
    come = slot in after.slots
    layer, own = (after if come else before).slots[slot]
    change = after.parameters - before.parameters
    if abs(change) != own.parameters:
        return ""
    parts = [
        f"{getattr(own, part):,} {words}" for part, words in PARTS.items() if part != "weights" and getattr(own, part)
    ]
    text = " + ".join([*([f"{_shape(layer, own)} weights"] if own.weights else []), *parts])
    return text if come else f"less {text}"


def _shape(layer: ChainLayer, own: LayerCost) -> str:
    window = f"{layer.kernel}x{layer.kernel}"
    if layer.grouping is Grouping.DEPTHWISE:
        return f"{own.out_channels}x{window}"
    channels = f"{own.in_channels // layer.groups}x{own.out_channels}"
    return channels if layer.kernel == 1 else f"{channels}x{window}"


def _by_part(before: _SlotCosts, after: _SlotCosts) -> str:
    """The change in weights, batch norms, biases, ..., each with its sign: `+1,920 weights - 96 of batch norm`."""
    changes = {part: _total(after, part) - _total(before, part) for part in PARTS}
    terms = [f"{'+' if n > 0 else '-'} {abs(n):,} {PARTS[part]}" for part, n in changes.items() if n]
    return " ".join([terms[0].replace(" ", "", 1), *terms[1:]]) if terms else ""


def _total(costs: _SlotCosts, part: str) -> int:
    return sum(getattr(own, part) for _, own in costs.slots.values())
