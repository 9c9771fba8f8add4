"""What no other rule recognized is said plainly, so that nothing is lost."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim, Severity
from mobilenets.auditing.rules.wording import claim, grouped, paper_of, plain, source_of
from mobilenets.auditing.structure.draft import SHARED
from mobilenets.auditing.structure.layers import Layer

HARMLESS = "dropout"
"""How the description of an operator begins that does nothing in evaluation."""


def unfolded(case: Case) -> list[Claim]:
    """Operators the chain of layers has no place for; dropout inside the network alone is only a note."""
    items = case.own("unfolded")
    if not items:
        return []
    listed = case.found.unfolded
    weights = sum(parameters for _, _, parameters in listed)
    kinds = ", ".join(dict.fromkeys(what for _, what, _ in listed))
    if all(what == SHARED for _, what, _ in listed):
        return [_weights_shared(case, items, weights)]
    harmless = all(what.startswith(HARMLESS) for _, what, _ in listed)
    return [
        Claim(
            "dropout" if harmless else "unfolded",
            Severity.NOTE if harmless else Severity.ERROR,
            tuple(dict.fromkeys(path or what for path, what, _ in listed)),
            "stem, blocks and head alone",
            kinds if harmless else f"what belongs to none of these: {kinds}",
            paper_of(case),
            "",
            "nothing; it acts in training only" if harmless else "remove them, or check that they are meant",
            tuple(item.difference for item in items),
        )
    ]


def _weights_shared(case: Case, items: list[Item], weights: int) -> Claim:
    return Claim(
        "weights-shared",
        Severity.ERROR,
        tuple(dict.fromkeys(path for path, _, _ in case.found.unfolded)),
        "weights of its own in every layer",
        f"an earlier layer's called again: {-weights:,} parameters fewer",
        paper_of(case),
        "published weights don't fit",
        "build a module for every layer: one object in two places is one layer",
        tuple(item.difference for item in items),
    )


def layers(case: Case) -> list[Claim]:
    """Single layers missing or extra."""
    claims = []
    for (missing, what), members in grouped(case.items("layer"), _layer_key).items():
        claims.append(
            claim(
                case,
                "layer-missing" if missing else "layer-extra",
                members,
                expected=what if missing else "no layer here",
                found=f"{what} is missing" if missing else f"{what} more",
                source=source_of(case, members) if missing else paper_of(case),
                effect="published weights don't fit",
                mend="add the layer" if missing else "remove the layer",
            )
        )
    return claims


def _layer_key(item: Item) -> tuple[bool, str]:
    assert item.slot is not None
    missing = item.slot.found is None
    layer = item.slot.expected if missing else item.slot.found
    assert layer is not None
    return missing, _described(layer)


def _described(layer: Layer) -> str:
    if layer.pooled:
        return "a linear layer"
    kind = plain(str(layer.grouping))
    return f"a {kind} {layer.kernel}x{layer.kernel} convolution"


def rest(case: Case) -> list[Claim]:
    """Everything left, by attribute and values."""
    claims = []
    items = [case.item(difference) for difference in case.open]
    for (attribute, expected, found), members in grouped(items, _key).items():
        name = attribute.replace("_", " ")
        claims.append(
            claim(
                case,
                "other",
                members,
                expected=f"{name}: {expected}",
                found=found,
                mend="make it as published",
            )
        )
    return claims


def _key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, plain(str(one.expected)), plain(str(one.found))
