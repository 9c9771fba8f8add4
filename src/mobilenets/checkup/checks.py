"""All checks of the doctor, and one pass of them over a data set."""

from __future__ import annotations

from mobilenets.checkup import duplicates, folders, images
from mobilenets.checkup.context import CheckContext
from mobilenets.checkup.registry import RULES
from mobilenets.checkup.results import SEVERITIES, DataIssue

MODULES = (duplicates, folders, images)
"""The files with rules: importing them registers theirs."""


def run_checks(context: CheckContext) -> tuple[DataIssue, ...]:
    """What all checks find, errors first."""
    found = [issue for check in RULES.checks() for issue in check.function(context)]
    return tuple(sorted(found, key=lambda issue: SEVERITIES.index(issue.severity)))
