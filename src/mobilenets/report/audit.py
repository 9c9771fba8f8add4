"""An `Audit` as text for people: what it is, what it costs, errors, notes, and the differences that add up."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from mobilenets.auditing.rules.finding import STRANGER, Audit, Finding, Severity
from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import Reference

WIDTH = 118
SHOWN = 3
"""Places of a finding that are named; the others are counted."""
DOUBTFUL = 0.8
"""Certainty below which the next nearest network is named."""
_LABEL = 10


def audit_text(audit: Audit) -> str:
    """The whole audit, lines separated by newlines, none at the end."""
    notes = [finding for finding in audit.findings if finding.diagnostic.severity is Severity.NOTE]
    if _is_stranger(audit):
        # Beside a network it is nowhere near, its costs say nothing.
        sections = [_stranger(audit), _section("note", notes), _remarks(audit)]
    else:
        sections = [
            _identity(audit),
            _totals(audit),
            _errors(audit),
            _section("note", notes),
            _additions(audit),
            _remarks(audit),
        ]
    return "\n\n".join("\n".join(section) for section in sections if section)


def one_line(finding: Finding) -> str:
    """A finding's cost and cause in a line: `+1,088 parameters = 32x32 weights + 64 of batch norm: the 1x1 ...`."""
    cost = f"{finding.parameters:+,} parameters"
    detail = f" = {finding.detail}" if finding.detail else ""
    return f"{cost}{detail}: {finding.diagnostic.found}"


def _is_stranger(audit: Audit) -> bool:
    return any(finding.diagnostic.rule == STRANGER for finding in audit.findings)


def _stranger(audit: Audit) -> list[str]:
    found = audit.comparison.found
    (diagnostic,) = (finding.diagnostic for finding in audit.findings if finding.diagnostic.rule == STRANGER)
    costs = f"{found.parameters:,} parameters, {_amount(found.macs)} multiply-adds at {found.image_size} pixels"
    return [f"{audit.target} ({audit.front_end})", *_wrapped(diagnostic.found), costs, *_wrapped(diagnostic.fix)]


def _identity(audit: Audit) -> list[str]:
    comparison, chain = audit.comparison, audit.comparison.found
    name = f"{comparison.reference.name}, width {comparison.reference.width_mult:g}"
    form = "small-image strides" if comparison.reference.small_input else "ImageNet strides"
    sure = "the one expected" if comparison.expected_by_user else f"sure: {100 * comparison.certainty:.0f} %"
    lines = [f"{audit.target} ({audit.front_end})"]
    verdict = f"{name}, {_classes(chain.num_classes)}, {chain.image_size} pixels, {form} ({sure})"
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
        ("costs", "" if diagnostic.rule == STRANGER else _costs(finding)),
        ("effect", diagnostic.effect),
        ("mend", diagnostic.fix),
    ]
    return ["", f"{diagnostic.severity.value}: {diagnostic.rule}", *_rows(rows)]


def _short(finding: Finding) -> list[str]:
    """A note in a few lines: it needs no cure."""
    diagnostic = finding.diagnostic
    instead = f" (published: {diagnostic.expected})" if diagnostic.expected else ""
    text = f"{diagnostic.rule}: {diagnostic.found}{instead}"
    if finding.parameters or finding.macs:
        text += f"; {_costs(finding)}"
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ")


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
    changing = [finding for finding in audit.findings if finding.parameters or finding.macs]
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


def _remarks(audit: Audit) -> list[str]:
    return [line for remark in audit.notes for line in _wrapped(f"seen: {remark}")]


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


# An audit as plain values for JSON: everything the text says, with full counts and the layers of both networks.


def audit_record(audit: Audit) -> dict[str, Any]:
    """The audit as dictionaries, lists, texts and numbers; what `mobilenets audit --json` prints.

    The `parameters` and `macs` of `findings` and of `unexplained` add up to those of `difference`.

    Keys:
        target, front_end: what was named, and how it was read (`torch.export`, `hooks`, `ONNX`, `TensorFlow Lite`).
        reference: the published network it was laid beside: `name`, `width_mult`, `options`, `small_input`,
            `variant_note`.
        certainty, runner_up, expected_by_user: 0 to 1, the next nearest, and whether the network was expected by name.
        image_size, in_channels, num_classes: of the network; classes are null where it ends with its features.
        found, published, difference, unexplained: each with `parameters` and `macs`.
        errors: how many findings are errors; the command exits 1 when there is one.
        findings: each with `rule`, `severity`, `where` (a list of paths), `expected`, `found`, `source`, `effect`,
            `mend`, `differences`, `parameters`, `macs`, `detail`.
        notes: sentences about the reading.
        slots: the layers of both networks, aligned: `index`, `expected`, `found` (null where one has none).
    """
    comparison = audit.comparison
    found, published = comparison.found, comparison.reference.chain
    return {
        "target": audit.target,
        "front_end": audit.front_end,
        "reference": _reference(comparison.reference),
        "certainty": comparison.certainty,
        "runner_up": comparison.runner_up,
        "expected_by_user": comparison.expected_by_user,
        "image_size": found.image_size,
        "in_channels": found.in_channels,
        "num_classes": found.num_classes,
        "found": {"parameters": found.parameters, "macs": found.macs},
        "published": {"parameters": published.parameters, "macs": published.macs},
        "difference": {
            "parameters": found.parameters - published.parameters,
            "macs": found.macs - published.macs,
        },
        "unexplained": {"parameters": audit.unexplained_parameters, "macs": audit.unexplained_macs},
        "errors": len(audit.errors),
        "findings": [_finding_record(finding) for finding in audit.findings],
        "notes": list(audit.notes),
        "slots": [_slot(slot) for slot in comparison.slots],
    }


def _reference(reference: Reference) -> dict[str, Any]:
    return {
        "name": reference.name,
        "width_mult": reference.width_mult,
        "options": dict(reference.options),
        "small_input": reference.small_input,
        "variant_note": reference.variant_note,
    }


def _finding_record(finding: Finding) -> dict[str, Any]:
    return {
        **_plain(finding.diagnostic),
        "parameters": finding.parameters,
        "macs": finding.macs,
        "detail": finding.detail,
    }


def _slot(slot: AlignedSlot) -> dict[str, Any]:
    return {"index": slot.index, "expected": _plain(slot.expected), "found": _plain(slot.found)}


def _plain(value: object) -> Any:
    """A frozen record as a dictionary, a tuple as a list, an enumeration as its value; JSON's own as they are."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
