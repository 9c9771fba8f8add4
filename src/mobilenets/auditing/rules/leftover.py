"""What no other rule recognized is said plainly, so that nothing is lost."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import diagnostic, grouped, paper_of, plain, source_of
from mobilenets.auditing.structure.draft import SHARED
from mobilenets.auditing.structure.layers import ChainLayer

HARMLESS = "dropout"
"""How the description of an operator begins that does nothing in evaluation."""


def unfolded(context: RuleContext) -> list[Diagnostic]:
    """Operators the chain of layers has no place for; dropout inside the network alone is only a note."""
    items = context.own("unfolded")
    if not items:
        return []
    listed = context.found.unfolded
    weights = sum(stray.parameters for stray in listed)
    kinds = ", ".join(dict.fromkeys(stray.what for stray in listed))
    if all(stray.what == SHARED for stray in listed):
        return [_weights_shared(context, items, weights)]
    harmless = all(stray.what.startswith(HARMLESS) for stray in listed)
    return [
        Diagnostic(
            "dropout" if harmless else "unfolded",
            Severity.NOTE if harmless else Severity.ERROR,
            tuple(dict.fromkeys(stray.path or stray.what for stray in listed)),
            "stem, blocks and head alone",
            kinds if harmless else f"what belongs to none of these: {kinds}",
            paper_of(context),
            "",
            "nothing; it acts in training only" if harmless else "remove them, or check that they are meant",
            # What stands between two layers hands the second another map than the first has left.
            tuple(item.difference for item in (*items, *context.items("enters"))),
        )
    ]


def _weights_shared(context: RuleContext, items: list[Item], weights: int) -> Diagnostic:
    return Diagnostic(
        "weights-shared",
        Severity.ERROR,
        tuple(dict.fromkeys(stray.path for stray in context.found.unfolded)),
        "weights of its own in every layer",
        f"an earlier layer's called again: {-weights:,} parameters fewer",
        paper_of(context),
        "published weights don't fit",
        "build a module for every layer: one object in two places is one layer",
        tuple(item.difference for item in items),
    )


def layers(context: RuleContext) -> list[Diagnostic]:
    """Single layers missing or extra."""
    diagnostics = []
    for (missing, what), members in grouped(context.items("layer"), _layer_key).items():
        diagnostics.append(
            diagnostic(
                context,
                "layer-missing" if missing else "layer-extra",
                members,
                expected=what if missing else "no layer here",
                found=f"{what} is missing" if missing else f"{what} more",
                source=source_of(context, members) if missing else paper_of(context),
                effect="published weights don't fit",
                fix="add the layer" if missing else _remove(members),
            )
        )
    return diagnostics


def _remove(items: list[Item]) -> str:
    if all(item.found.pooled for item in items):
        return "remove the layer, or keep it as a head of your own: the layers before the pool are not concerned"
    return "remove the layer"


def _layer_key(item: Item) -> tuple[bool, str]:
    assert item.slot is not None
    missing = item.slot.found is None
    layer = item.slot.expected if missing else item.slot.found
    assert layer is not None
    return missing, _described(layer)


def _described(layer: ChainLayer) -> str:
    if layer.pooled:
        return "a linear layer"
    kind = plain(str(layer.grouping))
    return f"a {kind} {layer.kernel}x{layer.kernel} convolution"


def rest(context: RuleContext) -> list[Diagnostic]:
    """Everything left, by attribute and values."""
    diagnostics = []
    items = [context.item(difference) for difference in context.open]
    for (attribute, expected, found), members in grouped(items, _key).items():
        name = attribute.replace("_", " ")
        diagnostics.append(
            diagnostic(
                context,
                "other",
                members,
                expected=f"{name}: {expected}",
                found=found,
                fix="make it as published",
            )
        )
    return diagnostics


def _key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, plain(str(one.expected)), plain(str(one.found))
