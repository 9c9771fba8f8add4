"""Rules and checks of the audit: a rule says what one id means, a check is the function that reports it as diagnostics.

A check is declared where it is written, see `mobilenets.rules.RuleRegistry`:

    @check(Aspect.BLOCKS, reads=("layer",))
    @rule("expansion-kept", ERROR, "...", source=TABLE, effect="...", fix="...")
    def expansion_kept(context: RuleContext) -> list[Diagnostic]: ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext, Severity
from mobilenets.auditing.structure.differences import NetworkDifference
from mobilenets.errors import AuditError
from mobilenets.rules import Rule, RuleRegistry

ERROR, NOTE = Severity.ERROR, Severity.NOTE
TABLE = "the paper's table, at the row of the layer"
"""Source of a rule whose findings name the paper, table and row of their layers."""
PAPER = "the paper of the nearest network"
"""Source of a rule whose findings name the paper of the published network."""
ANY = ("*",)
"""`reads` of a check that looks at every kind of difference."""

CheckFunction = Callable[[RuleContext], Sequence[Diagnostic]]


class Aspect(StrEnum):
    """What a check is about. Checks run in this order, and each sees only the differences that those before it left."""

    IDENTITY = "Whether it is a MobileNet"
    NETWORK = "The network as a whole"
    BLOCKS = "Blocks and their layers"
    CLASSIFIER = "Classifier"
    ROUNDING = "Hidden widths, rounding and the head"
    STAGES = "Stages"
    CHANNELS = "Other channels"
    STRIDES = "Strides"
    LAST_MAP = "Last map"
    SHORTCUTS = "Shortcuts"
    ACTIVATIONS = "Activations"
    SQUEEZE = "Squeeze-and-excitation"
    NORMS = "Batch norm and biases"
    FILTERS = "Filters"
    PADDING = "Padding"
    POOLING = "Pooling"
    FORM = "Form of the layers"
    OUTPUT = "Images and outputs"
    REST = "What no other rule explains"
    BEHAVIOUR = "Behaviour"


@dataclass(frozen=True)
class AuditRule(Rule):
    """A rule of the audit; `measured` says that `ORDINARY_LOSS` names this mistake."""

    measured: bool = False


RULES: RuleRegistry[AuditRule, CheckFunction] = RuleRegistry("audit", Aspect, AuditError)
check = RULES.check
"""Registers the decorated function as a check of an `Aspect`; `reads` are attributes of differences."""


def rule(
    name: str, severity: Severity, summary: str, *, source: str, effect: str, fix: str, measured: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a rule that the decorated check reports.

    Args:
        name: the rule's id.
        severity: of its findings; a check may report one of another severity, e.g. a note where a file was read.
        summary: what it looks for.
        source: paper and table, `TABLE` or `PAPER`.
        effect: why it matters.
        fix: what to do.
        measured: `ORDINARY_LOSS` names the mistake.

    Raises:
        ValueError: the id is registered already.
    """
    return RULES.declare(AuditRule(name, severity, summary, source, effect, fix, measured))


# How a check reports: with what its rule says, and with what several places have in common.


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
"""What a public account says of the mistakes that change outputs and can be made at width 1, of which its figure is."""


def name_of(function: object) -> str:
    """A function's name as people write it."""
    return ACTIVATIONS.get(str(function), str(function).replace("_", " "))


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by a key, keys in order of their first item: a fault that is the same everywhere is one diagnostic."""
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
    items: Sequence[Item] = (),
    *,
    expected: str,
    found: str,
    severity: Severity | None = None,
    source: str | None = None,
    effect: str | None = None,
    fix: str | None = None,
    follows: Sequence[Item] = (),
    where: tuple[str, ...] | None = None,
    differences: Sequence[NetworkDifference] = (),
    measured: bool = True,
) -> Diagnostic:
    """A diagnostic about the items, with the severity, source, effect and fix of its rule where none is given.

    Args:
        context: what was compared.
        rule: the id of a registered rule.
        items: the differences the finding is about; their paths are where it is.
        expected: for people, short.
        found: likewise.
        severity: None for the rule's.
        source: None for the rule's.
        effect: None for the rule's.
        fix: None for the rule's.
        follows: differences of the same cause that are no places of their own.
        where: paths in place of the items'.
        differences: others that it explains, of no item.
        measured: False for a form of the mistake of which `ORDINARY_LOSS` says nothing.
    """
    known = RULES[rule]
    explained = {id(one): one for one in (*(item.difference for item in (*items, *follows)), *differences)}
    effects = [known.effect if effect is None else effect, _loss(context) if measured and known.measured else ""]
    return Diagnostic(
        rule=rule,
        severity=Severity(known.severity) if severity is None else severity,
        where=paths(items) if where is None else where,
        expected=expected,
        found=found,
        source=_source(context, known.source, items) if source is None else source,
        effect="; ".join(filter(None, effects)),
        fix=known.fix if fix is None else fix,
        differences=tuple(explained.values()),
    )


def _source(context: RuleContext, source: str, items: Sequence[Item]) -> str:
    if source == TABLE:
        return source_of(context, items)
    return paper_of(context) if source == PAPER else source


def _loss(context: RuleContext) -> str:
    """The one accuracy figure there is, of MobileNetV2 at width 1."""
    return ORDINARY_LOSS if context.reference.name == "mobilenet_v2" and context.reference.width_mult == 1 else ""


def plain(text: object) -> str:
    """A value for people: enumerations and None in words."""
    if text is None:
        return "none"
    return re.sub(r"\b(Grouping|Padding|ShortcutKind)\.", "", str(text)).lower() if not isinstance(text, str) else text
