"""Rules and checks of the audit: a rule says what one id means, a check is the function that reports it.

A check is declared where it is written, see `mobilenets.rules.RuleRegistry`:

    @check(Aspect.BLOCKS, reads=("layer",))
    @rule("expansion-kept", ERROR, "...", source=TABLE, effect="...", fix="...")
    def expansion_kept(context: RuleContext) -> list[Diagnostic]: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        measured: `diagnostics.ORDINARY_LOSS` names the mistake.

    Raises:
        ValueError: the id is registered already.
    """
    return RULES.declare(AuditRule(name, severity, summary, source, effect, fix, measured))
