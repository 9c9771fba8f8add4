"""Claims in words: what several places have in common, sources, names of functions as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity

Key = TypeVar("Key", bound=Hashable)

ACTIVATIONS = {
    "none": "none",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "hard_swish": "h-swish",
    "swish": "swish",
    "gelu": "GELU",
    "hard_sigmoid": "h-sigmoid ReLU6(x + 3) / 6",
    "hard_sigmoid_half": "clip((x + 1) / 2)",
    "hard_sigmoid_keras": "clip(0.2 x + 0.5)",
    "sigmoid": "sigmoid",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "tanh": "tanh",
    "mish": "Mish",
    "scale": "a constant factor",
    "unknown": "a function of no known name",
    "affine": "a constant factor and shift",
}

OTHER_SHAPES = "published weights don't fit: they have other shapes"
LOADS = "published weights load, but the answers are others: "
"""Before what differs: an error that no shape shows."""

ORDINARY_LOSS = "a tutorial's MobileNetV2 lost 1 to 3 of 92.3 points on CIFAR-10 with any one of such mistakes"
MEASURED = {
    "expansion-kept",
    "shortcut-missing",
    "shortcut-extra",
    "shortcut-projected",
    "shortcut-downsampled",
    "hidden-from-output",
    "bottleneck-activation",
    "relu-for-relu6",
    "norm-missing",
    "repeats",
    "stride-shifted",
    "strides",
}
"""The mistakes that tutorial lists which change answers, and can be made at width 1, of which its figure is."""


def name_of(function: object) -> str:
    """A function's name as people write it."""
    return ACTIVATIONS.get(str(function), str(function).replace("_", " "))


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by a key, keys in order of their first item: one diagnostic a group, so a uniform fault is said once."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def paths(items: Iterable[Item]) -> tuple[str, ...]:
    """Where the items are, each path once."""
    return tuple(dict.fromkeys(item.path for item in items))


def source_of(context: RuleContext, items: Iterable[Item]) -> str:
    """Paper, table and row of the items; only what they have in common when they stand in several rows."""
    sources = list(dict.fromkeys(item.place.source for item in items if item.place is not None))
    if len(sources) == 1:
        return sources[0]
    tables = list(dict.fromkeys(source.partition(":")[0] for source in sources or (paper_of(context),)))
    return "; ".join(tables)


def paper_of(context: RuleContext) -> str:
    """Paper and table of the published network, from its first block."""
    sources = [place.source for place in context.reference.places if place.block] or ["the published network"]
    return sources[0].partition(":")[0]


def stages_of(items: Iterable[Item]) -> str:
    """The published places of the items in words, e.g. `blocks 2, 4 and 7`."""
    blocks = sorted({item.block for item in items if item.block})
    if not blocks:
        return ", ".join(dict.fromkeys(item.label for item in items))
    numbers = [str(block) for block in blocks]
    listed = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"block{'s' if len(numbers) > 1 else ''} {listed}"


def pairs(items: Sequence[Item], shown: int = 4) -> tuple[str, str]:
    """The expected and the found values of the items, matching, each pair once: `32, 24, ...` and `28, 20, ...`."""
    unique = list(dict.fromkeys((str(item.difference.expected), str(item.difference.found)) for item in items))
    more = ", ..." if len(unique) > shown else ""
    return (
        ", ".join(expected for expected, _ in unique[:shown]) + more,
        ", ".join(found for _, found in unique[:shown]) + more,
    )


def diagnostic(
    context: RuleContext,
    rule: str,
    items: Sequence[Item],
    *,
    expected: str,
    found: str,
    fix: str,
    effect: str = "",
    severity: Severity = Severity.ERROR,
    source: str = "",
    follows: Sequence[Item] = (),
    measured: bool = True,
) -> Diagnostic:
    """A diagnostic about the items; `follows` are differences that come of the same cause but are no places of their own.

    `measured` False: a form of the rule's mistake that the source of `MEASURED` says nothing of.
    """
    differences = {id(item.difference): item.difference for item in (*items, *follows)}
    return Diagnostic(
        rule=rule,
        severity=severity,
        where=paths(items),
        expected=expected,
        found=found,
        source=source or source_of(context, items),
        effect="; ".join(filter(None, [effect, _loss(context, rule) if measured else ""])),
        fix=fix,
        differences=tuple(differences.values()),
    )


def _loss(context: RuleContext, rule: str) -> str:
    """The one accuracy figure there is, where its source has it: of MobileNetV2 and of these mistakes."""
    same = context.reference.name == "mobilenet_v2" and context.reference.width_mult == 1
    return ORDINARY_LOSS if same and rule in MEASURED else ""


def note(
    context: RuleContext,
    rule: str,
    items: Sequence[Item],
    *,
    expected: str,
    found: str,
    fix: str,
    effect: str = "",
    source: str = "",
    follows: Sequence[Item] = (),
) -> Diagnostic:
    """A diagnostic about a legitimate variant, or a thing to know; words as for `diagnostic`."""
    return diagnostic(
        context,
        rule,
        items,
        severity=Severity.NOTE,
        expected=expected,
        found=found,
        fix=fix,
        effect=effect,
        source=source,
        follows=follows,
    )


def plain(text: object) -> str:
    """A value for people: enumerations and None in words."""
    if text is None:
        return "none"
    return re.sub(r"\b(Grouping|Padding|ShortcutKind)\.", "", str(text)).lower() if not isinstance(text, str) else text
