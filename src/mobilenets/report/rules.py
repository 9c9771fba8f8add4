"""The rules of `audit` and `doctor` as a table, as JSON, and as the reference pages under docs/.

python -m mobilenets.report.rules docs    # writes docs/audit-rules.md and docs/doctor-checks.md
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenets.rules import Rule

WIDTH = 118
PAGES = ("audit-rules.md", "doctor-checks.md")


@dataclass(frozen=True)
class RuleGroup:
    """Rules about one thing, under a heading."""

    title: str
    rules: tuple[Rule, ...]


def audit_groups() -> tuple[RuleGroup, ...]:
    """The rules of the audit, in the order in which they are applied."""
    from mobilenets.auditing.rules import findings  # importing the files with rules registers them
    from mobilenets.auditing.rules.registry import RULES

    assert findings.MODULES
    return tuple(RuleGroup(aspect.value, tuple(rules)) for aspect, rules in RULES.groups())


def doctor_groups() -> tuple[RuleGroup, ...]:
    """The checks of the doctor, by family."""
    from mobilenets.checkup import checks
    from mobilenets.checkup.registry import RULES

    assert checks.MODULES
    return tuple(RuleGroup(family.value, tuple(rules)) for family, rules in RULES.groups())


def rules_text(groups: Sequence[RuleGroup]) -> str:
    """A line a rule, under headings: id, severity, what it looks for."""
    rules = [rule for group in groups for rule in group.rules]
    widths = max(len(rule.id) for rule in rules), max(len(rule.severity) for rule in rules)
    lines = []
    for group in groups:
        lines += ["", group.title]
        for rule in group.rules:
            head = f"  {rule.id:<{widths[0]}}  {rule.severity:<{widths[1]}}  "
            lines += textwrap.wrap(rule.summary, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    return "\n".join(lines[1:])


def rules_json(groups: Sequence[RuleGroup]) -> str:
    """The same with all that is known of each rule, as a list of objects."""
    records = [
        {
            "id": rule.id,
            "severity": str(rule.severity),
            "group": group.title,
            "summary": rule.summary,
            "source": rule.source,
            "effect": rule.effect,
            "fix": rule.fix,
        }
        for group in groups
        for rule in group.rules
    ]
    return json.dumps(records, indent=2)


def rules_page(verb: str) -> str:
    """The reference page of `audit` or `doctor`, in Markdown; `docs/` holds what this returns."""
    groups = audit_groups() if verb == "audit" else doctor_groups()
    what = "Rules of the audit" if verb == "audit" else "Checks of the doctor"
    count = sum(len(group.rules) for group in groups)
    lines = [
        f"# {what}",
        "",
        "<!-- Written by `python -m mobilenets.report.rules docs`; a test compares the two. -->",
        "",
        f"`mobilenets {verb} --list-rules` prints these {count}; `--ignore ID,...` sets findings aside. "
        "A finding may have another severity than its rule where the rule says so.",
    ]
    for group in groups:
        lines += ["", f"## {group.title}"]
        for rule in group.rules:
            lines += ["", *_section(rule)]
    return "\n".join(lines) + "\n"


def _section(rule: Rule) -> Iterator[str]:
    yield f"### `{rule.id}`"
    yield ""
    for name, text in (
        ("Severity", str(rule.severity)),
        ("Looks for", rule.summary),
        ("Why it matters", rule.effect),
        ("Source", rule.source),
        ("Fix", rule.fix),
    ):
        yield f"- **{name}:** {text}"


def main(folder: str) -> None:
    """Write both pages into a folder."""
    for verb, name in zip(("audit", "doctor"), PAGES, strict=True):
        Path(folder, name).write_text(rules_page(verb), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
