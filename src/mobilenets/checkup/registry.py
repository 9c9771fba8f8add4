"""The doctor's rules: what each looks for and says, declared at the check that reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from mobilenets.checkup.context import CheckContext
from mobilenets.checkup.results import DataIssue, Example, Severity
from mobilenets.errors import DataError
from mobilenets.rules import Rule, RuleRegistry

CheckFunction = Callable[[CheckContext], Iterator[DataIssue]]


class Family(StrEnum):
    """What a check is about, in the order in which checks run."""

    FILES = "Files"
    FOLDERS = "Folders"
    CLASSES = "Classes"
    DUPLICATES = "Duplicates"
    NEAR_DUPLICATES = "Near-duplicates"
    IMAGES = "Images"
    EXCLUSIONS = "Exclusions"


RULES: RuleRegistry[Rule, CheckFunction] = RuleRegistry("doctor", Family, DataError)
check = RULES.check
"""Registers the decorated function as a check of a `Family`."""


def rule(
    name: str, severity: Severity, summary: str, *, source: str, effect: str, fix: str
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a rule that the decorated check reports.

    Args:
        name: the rule's id.
        severity: of what it finds.
        summary: what it looks for; the title of what it finds.
        source: a paper, a standard, or what reads the data so.
        effect: why it matters.
        fix: what to do; the advice given.

    Raises:
        ValueError: the id is registered already.
    """
    return RULES.declare(Rule(name, severity, summary, source, effect, fix))


def issue(
    name: str,
    examples: Sequence[Example],
    *,
    title: str | None = None,
    advice: str | None = None,
    severity: Severity | None = None,
    count: int | None = None,
) -> Iterator[DataIssue]:
    """What a rule found, if there is anything to show for it; what is None is as the rule says."""
    if examples or count:
        known = RULES[name]
        yield DataIssue(
            kind=name,
            severity=SEVERITY[known.severity] if severity is None else severity,
            title=known.summary if title is None else title,
            count=len(examples) if count is None else count,
            advice=known.fix if advice is None else advice,
            examples=tuple(examples),
        )


SEVERITY: dict[str, Severity] = {"error": "error", "warning": "warning", "note": "note"}
