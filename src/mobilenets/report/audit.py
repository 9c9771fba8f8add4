"""An `Audit` as text for people: what it is, what it costs, errors, notes, and the differences that add up."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from mobilenets.auditing.result import Audit
from mobilenets.auditing.rules.context import Finding, Severity
from mobilenets.auditing.rules.leftover import NOT_A_MOBILENET

WIDTH = 118
SHOWN = 3
"""Places of a finding that are named; the others are counted."""
DOUBTFUL = 0.8
"""Certainty below which the next nearest network is named."""
_LABEL = 10


def audit_text(audit: Audit) -> str:
    """The whole audit, lines separated by newlines, none at the end."""
    notes = [finding for finding in audit.findings if finding.diagnostic.severity is Severity.NOTE]
    if _is_another_network(audit):
        # Beside a network it is nowhere near, its costs say nothing.
        sections = [_another_network(audit), _section("note", notes), _ignored(audit), _notes(audit)]
    else:
        sections = [
            _identity(audit),
            _totals(audit),
            _errors(audit),
            _section("note", notes),
            _ignored(audit),
            _additions(audit),
            _notes(audit),
        ]
    return "\n\n".join("\n".join(section) for section in sections if section)


def one_line(finding: Finding) -> str:
    """A finding's cost and cause in a line: `+1,088 parameters = 32x32 weights + 64 of batch norm: the 1x1 ...`."""
    cost = f"{finding.parameters:+,} parameters"
    detail = f" = {finding.detail}" if finding.detail else ""
    return f"{cost}{detail}: {finding.diagnostic.found}"


def _is_another_network(audit: Audit) -> bool:
    return any(finding.diagnostic.rule == NOT_A_MOBILENET for finding in (*audit.findings, *audit.ignored))


def _another_network(audit: Audit) -> list[str]:
    found = audit.comparison.found
    findings = (*audit.findings, *audit.ignored)
    (diagnostic,) = (finding.diagnostic for finding in findings if finding.diagnostic.rule == NOT_A_MOBILENET)
    costs = f"{found.parameters:,} parameters, {_amount(found.macs)} multiply-adds at {found.image_size} pixels"
    return [f"{audit.target} ({audit.front_end})", *_wrapped(diagnostic.found), costs, *_wrapped(diagnostic.fix)]


def _identity(audit: Audit) -> list[str]:
    comparison, chain = audit.comparison, audit.comparison.found
    name = f"{comparison.reference.name}, width {comparison.reference.width_mult:g}"
    form = "small-image strides" if comparison.reference.small_input else "ImageNet strides"
    certainty = "the one expected" if comparison.expected_by_user else f"confidence {100 * comparison.certainty:.0f} %"
    lines = [f"{audit.target} ({audit.front_end})"]
    verdict = f"{name}, {_classes(chain.num_classes)}, {chain.image_size} pixels, {form} ({certainty})"
    lines += _wrapped(verdict + (f"; {_unexplained(audit)}" if _is_open(audit) else ""))
    if comparison.runner_up and comparison.certainty < DOUBTFUL and not comparison.expected_by_user:
        lines.append(f"next nearest: {comparison.runner_up}; name the one it should be with --expect")
    return lines


def _classes(count: int | None) -> str:
    if count is None:
        return "features only"
    return f"{count:,} class{'' if count == 1 else 'es'}"


def _totals(audit: Audit) -> list[str]:
    found, published = audit.comparison.found, audit.comparison.reference.chain
    rows = [
        ("", "parameters", "multiply-adds"),
        ("found", f"{found.parameters:,}", _amount(found.macs)),
        ("published", f"{published.parameters:,}", _amount(published.macs)),
        ("difference", _signed(found.parameters - published.parameters), _change(found.macs - published.macs)),
    ]
    return _aligned(rows)


def _errors(audit: Audit) -> list[str]:
    if audit.errors:
        return _section("error", audit.errors)
    if _is_open(audit):
        return [f"no errors found, but the network is not the published one: {_unexplained(audit)}"]
    if any(finding.diagnostic.severity is Severity.ERROR for finding in audit.ignored):
        return ["no errors beside those ignored"]
    return ["no errors: the network is the published one, or a legitimate variant of it"]


def _is_open(audit: Audit) -> bool:
    """Not all of the difference from the published network is explained."""
    return bool(audit.unexplained_parameters or audit.unexplained_macs)


def _unexplained(audit: Audit) -> str:
    parameters, macs = audit.unexplained_parameters, audit.unexplained_macs
    return f"unexplained: {_signed(parameters)} parameters, {_signed(macs)} multiply-adds"


def _section(kind: str, findings: Sequence[Finding]) -> list[str]:
    """The findings of one kind under a line that counts them, a blank line between errors."""
    if not findings:
        return []
    count = f"{len(findings)} {kind}{'s' if len(findings) > 1 else ''}"
    lines = [count]
    for finding in findings:
        lines += _finding(finding) if kind == "error" else _short(finding)
    return lines


def _finding(finding: Finding) -> list[str]:
    diagnostic = finding.diagnostic
    rows = [
        ("where", _where(diagnostic.where)),
        ("expected", diagnostic.expected),
        ("found", diagnostic.found),
        ("source", diagnostic.source),
        ("costs", "" if diagnostic.rule == NOT_A_MOBILENET else _costs(finding)),
        ("effect", diagnostic.effect),
        ("fix", diagnostic.fix),
    ]
    return ["", f"{diagnostic.severity.value}: {diagnostic.rule}", *_rows(rows)]


def _short(finding: Finding) -> list[str]:
    """A note in a few lines: it needs no fix."""
    diagnostic = finding.diagnostic
    instead = f" (published: {diagnostic.expected})" if diagnostic.expected else ""
    text = f"{diagnostic.rule}: {diagnostic.found}{instead}"
    if finding.parameters or finding.macs:
        text += f"; {_costs(finding)}"
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ")


def _ignored(audit: Audit) -> list[str]:
    """How many findings were ignored, and by which rules."""
    if not audit.ignored:
        return []
    count = f"{len(audit.ignored)} finding{'' if len(audit.ignored) == 1 else 's'} ignored"
    rules = dict.fromkeys(finding.diagnostic.rule for finding in audit.ignored)
    return _wrapped(f"{count}: {', '.join(rules)}")


def _costs(finding: Finding) -> str:
    if not finding.parameters and not finding.macs:
        return "nothing: parameters and multiply-adds stay the same"
    detail = f" = {finding.detail}" if finding.detail else ""
    parameters = f"{finding.parameters:+,} parameters{detail}" if finding.parameters else "no parameters"
    return f"{parameters}; {_change(finding.macs) if finding.macs else 'no'} multiply-adds"


def _where(paths: Sequence[str]) -> str:
    if not paths:
        return "the whole network"
    named = ("; " if any(", " in path for path in paths) else ", ").join(paths[:SHOWN])
    if all(path.isdecimal() for path in paths):
        # Of a plain nn.Sequential the paths are bare numbers.
        named = f"layer{'s' if len(paths) > 1 else ''} {named} of the nn.Sequential"
    more = len(paths) - SHOWN
    return f"{named} and {more} more" if more > 0 else named


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    lines = []
    for label, text in rows:
        if text:
            indent = " " * (2 + _LABEL)
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=f"  {label:<{_LABEL}}", subsequent_indent=indent, break_on_hyphens=False
            )
    return lines


def _additions(audit: Audit) -> list[str]:
    """The closing table: the differences of all findings and what is unexplained, adding up to the total."""
    found, published = audit.comparison.found, audit.comparison.reference.chain
    changing = [finding for finding in (*audit.findings, *audit.ignored) if finding.parameters or finding.macs]
    unexplained = (audit.unexplained_parameters, audit.unexplained_macs)
    if not changing and not any(unexplained):
        return []
    rows = [("what adds up", "parameters", "multiply-adds")]
    rows.append((f"published {audit.comparison.reference.name}", f"{published.parameters:,}", _exact(published.macs)))
    rows += [(finding.diagnostic.rule, _signed(finding.parameters), _signed(finding.macs)) for finding in changing]
    if any(unexplained):
        rows.append(("unexplained", _signed(unexplained[0]), _signed(unexplained[1])))
    rows.append(("found", f"{found.parameters:,}", _exact(found.macs)))
    explained = [
        one_line(finding) for finding in changing if finding.detail and finding.diagnostic.severity is Severity.ERROR
    ]
    return _aligned(rows) + (["", *(line for one in explained for line in _wrapped(one))] if explained else [])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _notes(audit: Audit) -> list[str]:
    return [line for note in audit.notes for line in _wrapped(f"seen: {note}")]


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip() for row in rows]


def _exact(number: int) -> str:
    return f"{number:,}"


def _amount(number: int) -> str:
    """In millions, where that leaves a figure to see."""
    return f"{number / 1e6:,.2f} M" if number >= 10_000 else f"{number:,}"


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"


def _change(number: int) -> str:
    return f"{'+' if number > 0 else '-'}{_amount(abs(number))}" if number else "0"
