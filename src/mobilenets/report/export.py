"""An export's report for people and for programs."""

from __future__ import annotations

from typing import Any

from mobilenets.workflows.export import ExportReport

MEGABYTE = 1_000_000


def export_record(report: ExportReport) -> dict[str, Any]:
    """The report as JSON can hold it: everything but the golden images, which are in the file."""
    description = report.artifact.description
    calibration = report.calibration
    return {
        "path": str(report.artifact.path),
        "kind": description.kind,
        "precision": description.precision,
        "file_bytes": report.artifact.file_bytes,
        "digest": description.digest,
        "network": dict(description.network),
        "classes": len(description.classes),
        "image_shape": list(description.image_shape),
        "dynamic_batch": description.dynamic_batch,
        "backend": report.backend,
        "asked": report.asked,
        "parity": vars(report.parity),
        "network_top1": report.network_top1,
        "file_top1": report.file_top1,
        "golden_difference": report.golden_difference,
        "calibration": None
        if calibration is None
        else {**vars(calibration), "confidence": vars(calibration.confidence)},
        "notes": list(report.notes),
        "provenance": dict(description.provenance),
    }


def export_text(report: ExportReport) -> str:
    """The report in a few lines."""
    description, parity = report.artifact.description, report.parity
    batch = "any number of images" if description.dynamic_batch else "one image"
    size, _, channels = description.image_shape
    lines = [
        f"{report.artifact.path}: {description.kind}, {description.precision}, "
        f"{report.artifact.file_bytes / MEGABYTE:.2f} MB",
        f"  takes       {batch} a call, uint8 {size}x{size}x{channels}; answers {len(description.classes)} classes",
        f"  asked       {report.asked}, in {report.backend}",
        f"  logits      differ by at most {parity.max_difference:.2g} (allowed {parity.allowed:.2g}), "
        f"on average {parity.mean_difference:.2g}",
        f"  first guess the same for {parity.top1_agreement:.2f} % of them",
    ]
    if report.network_top1 is not None and report.file_top1 is not None:
        lines.append(f"  accuracy    network {report.network_top1:.2f} %, file {report.file_top1:.2f} %")
    lines.append(f"  opened again, its golden answers differ by at most {report.golden_difference:.2g}")
    if report.calibration is not None:
        lines += _calibration_lines(report)
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def _calibration_lines(report: ExportReport) -> list[str]:
    calibration = report.calibration
    assert calibration is not None
    confidence = calibration.confidence
    return [
        f"  confidence  temperature {confidence.temperature:g}: calibration error {calibration.ece_before:.1f} % -> "
        f"{calibration.ece_after:.1f} %",
        f"  unknown     below {100 * confidence.threshold:.1f} %: {confidence.basis}",
    ]
