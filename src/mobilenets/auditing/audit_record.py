"""An audit as plain values for JSON: everything the text says, with full counts and the layers of both networks."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from mobilenets.auditing.rules.finding import Audit, Finding
from mobilenets.auditing.structure.comparison import Slot
from mobilenets.auditing.structure.layers import Reference


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
        "findings": [_finding(finding) for finding in audit.findings],
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


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        **_plain(finding.claim),
        "parameters": finding.parameters,
        "macs": finding.macs,
        "detail": finding.detail,
    }


def _slot(slot: Slot) -> dict[str, Any]:
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
