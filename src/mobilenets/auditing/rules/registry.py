"""Rules and checks of the audit: a rule says what one id means, a check is the function that reports it.

A check is declared where it is written:

    @check(Aspect.BLOCKS, reads=("layer",))
    @rule("expansion-kept", ERROR, "...", source=TABLE, effect="...", fix="...")
    def expansion_kept(context: RuleContext) -> list[Diagnostic]: ...

Rules that one function tells apart stand above it together. A rule that several functions report is registered at one
of them; the others name it in `reports`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mobilenets.auditing.rules.context import Diagnostic, RuleContext, Severity
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
    STRIDES = "Strides and maps"
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
    """A rule of the audit; `measured` says that `diagnostics.ORDINARY_LOSS` names this mistake."""

    measured: bool = False


@dataclass(frozen=True)
class Check:
    """A function that reports rules; it runs where a difference it `reads` is left, or where it reads none."""

    function: CheckFunction
    aspect: Aspect
    reads: tuple[str, ...]
    rules: tuple[str, ...]


RULES: RuleRegistry[AuditRule] = RuleRegistry("audit", AuditError)
_CHECKS: list[Check] = []
_RULES_OF: dict[CheckFunction, list[str]] = {}


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
        measured: `diagnostics.ORDINARY_LOSS` names the mistake.

    Raises:
        ValueError: the id is registered already.
    """
    RULES.register(AuditRule(name, severity, summary, source, effect, fix, measured))

    def decorate(function: CheckFunction) -> CheckFunction:
        # Decorators apply from below; rules are listed as they are read.
        _RULES_OF.setdefault(function, []).insert(0, name)
        return function

    return decorate


def check(
    aspect: Aspect, *, reads: tuple[str, ...] = (), reports: tuple[str, ...] = ()
) -> Callable[[CheckFunction], CheckFunction]:
    """Register the decorated function as a check of an aspect.

    Args:
        aspect: what it is about; checks of an aspect run in the order of their files' names and of their lines.
        reads: attributes of differences without which it has nothing to report; empty: it always runs.
        reports: rules it reports that are registered at other checks.
    """

    def decorate(function: CheckFunction) -> CheckFunction:
        _CHECKS.append(Check(function, aspect, reads, (*_RULES_OF.get(function, ()), *reports)))
        return function

    return decorate


def checks() -> list[Check]:
    """All checks in the order in which they run."""
    order = list(Aspect)
    return sorted(_CHECKS, key=lambda one: order.index(one.aspect))


def rules_by_aspect() -> Iterator[tuple[Aspect, list[AuditRule]]]:
    """The rules of each aspect that has some, each rule once, at the check it is registered at."""
    for aspect in Aspect:
        names = [
            name
            for one in checks()
            if one.aspect is aspect
            for name in one.rules
            if name in _RULES_OF.get(one.function, ())
        ]
        if names:
            yield aspect, [RULES[name] for name in names]
