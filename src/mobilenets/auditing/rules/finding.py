"""What an audit says: diagnostics of the rules, findings with their cost, the whole answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mobilenets.auditing.structure.differences import NetworkComparison, NetworkDifference

STRANGER = "not-a-mobilenet"
"""The rule of the one diagnostic about a network that is near to nothing published."""


class Severity(StrEnum):
    """An error makes the network another one than published; a note is a legitimate variant, or a thing to know."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True)
class Diagnostic:
    """What a rule recognizes: the differences it explains, and how to say it. The auditor adds the cost.

    Attributes:
        rule: short stable name, e.g. `expansion-kept`.
        severity: error or note.
        where: the user's own paths, one or several.
        expected, found: for people, short.
        source: paper and table, or the code that set the convention.
        effect: what it changes beside parameters and multiply-adds, with a source when it has a figure; may be empty.
        fix: what to do.
        differences: those it explains; a difference is claimed once, by the first rule that wants it.
    """

    rule: str
    severity: Severity
    where: tuple[str, ...]
    expected: str
    found: str
    source: str
    effect: str
    fix: str
    differences: tuple[NetworkDifference, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A diagnostic with its cost: how many parameters and multiply-adds the found network has more because of it."""

    diagnostic: Diagnostic
    parameters: int
    macs: int
    detail: str = ""
    """How the parameters come about, e.g. `32x32 weights + 64 of batch norm`."""


@dataclass(frozen=True)
class Audit:
    """The whole answer.

    The `parameters` and `macs` of the findings and the `unexplained_*` add up to the found network's total minus the
    published one's.
    """

    target: str
    front_end: str
    comparison: NetworkComparison
    findings: tuple[Finding, ...]
    unexplained_parameters: int
    unexplained_macs: int
    notes: tuple[str, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.diagnostic.severity is Severity.ERROR)
