"""What an audit returns: its findings, what they add up to, and the same as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from mobilenets.auditing.rules.context import Finding, Severity
from mobilenets.auditing.structure.differences import AlignedSlot, NetworkComparison
from mobilenets.auditing.structure.layers import Reference
from mobilenets.result import Result


@dataclass(frozen=True, repr=False)
class Audit(Result):
    """The whole answer.

    The `parameters` and `macs` of `findings` and `ignored`, and the `unexplained_*`, add up to the found network's
    total minus the published one's.

    Attributes:
        target: what was audited, as the user named it.
        front_end: how it was read: `torch.export`, `hooks`, `ONNX` or `TensorFlow Lite`.
        comparison: the network beside the published one.
        findings: in the order of the rules.
        unexplained_parameters: those that no finding explains.
        unexplained_macs: likewise.
        notes: sentences about the reading.
        ignored: findings of the rules that were to be ignored.
    """

    target: str
    front_end: str
    comparison: NetworkComparison
    findings: tuple[Finding, ...]
    unexplained_parameters: int
    unexplained_macs: int
    notes: tuple[str, ...] = ()
    ignored: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.diagnostic.severity is Severity.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """The audit as dictionaries, lists, texts and numbers: what `mobilenets audit --json` prints.

        The `parameters` and `macs` of `findings`, `ignored` and `unexplained` add up to those of `difference`.

        Keys:
            target, front_end: what was named, and how it was read (`torch.export`, `hooks`, `ONNX`, `TensorFlow Lite`).
            reference: the published network it is compared with: `name`, `width_mult`, `options`, `small_input`,
                `variant_note`.
            certainty, runner_up, expected_by_user: 0 to 1, the next nearest, and whether it was expected by name.
            image_size, in_channels, num_classes: of the network; classes are null where it ends with its features.
            found, published, difference, unexplained: each with `parameters` and `macs`.
            errors: how many findings are errors; the command exits 1 when there is one.
            findings: each with `rule`, `severity`, `where` (a list of paths), `expected`, `found`, `source`, `effect`,
                `fix`, `differences`, `parameters`, `macs`, `detail`.
            ignored: findings of the rules that were to be ignored, with the same keys; they are not among the errors.
            notes: sentences about the reading.
            slots: the layers of both networks, aligned: `index`, `expected`, `found` (null where one has none).
        """
        comparison = self.comparison
        found, published = comparison.found, comparison.reference.chain
        return {
            "target": self.target,
            "front_end": self.front_end,
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
            "unexplained": {"parameters": self.unexplained_parameters, "macs": self.unexplained_macs},
            "errors": len(self.errors),
            "findings": [_finding_record(finding) for finding in self.findings],
            "ignored": [_finding_record(finding) for finding in self.ignored],
            "notes": list(self.notes),
            "slots": [_slot(slot) for slot in comparison.slots],
        }

    def _headline(self) -> str:
        reference = self.comparison.reference
        errors = len(self.errors)
        notes = len(self.findings) - errors
        counts = f"{_count(errors, 'error')}, {_count(notes, 'note')}"
        ignored = f", {len(self.ignored)} ignored" if self.ignored else ""
        return f"{_short(self.target)}: {reference.name}, width {reference.width_mult:g}: {counts}{ignored}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "rule": finding.diagnostic.rule,
                "severity": finding.diagnostic.severity.value,
                "where": ", ".join(finding.diagnostic.where),
                "expected": finding.diagnostic.expected,
                "found": finding.diagnostic.found,
                "parameters": finding.parameters,
                "macs": finding.macs,
                "source": finding.diagnostic.source,
                "fix": finding.diagnostic.fix,
            }
            for finding in self.findings
        ]


_TITLE = 60


def _short(target: str) -> str:
    return target if len(target) <= _TITLE else f"...{target[3 - _TITLE :]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
