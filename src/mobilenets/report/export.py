"""An export as text."""

from __future__ import annotations

from mobilenets.exporters.export import ExportReport
from mobilenets.formatting import megabytes


def export_text(report: ExportReport) -> str:
    """The report in a few lines."""
    description, parity = report.artifact.description, report.parity
    batch = "any number of images" if description.dynamic_batch else "one image"
    size, _, channels = description.image_shape
    lines = [
        f"{report.artifact.path}: {description.kind}, {description.precision}, "
        f"{megabytes(report.artifact.file_bytes)} MB",
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
        calibration, confidence = report.calibration, report.calibration.confidence
        lines += [
            f"  confidence  temperature {confidence.temperature:g}: calibration error {calibration.ece_before:.1f} % "
            f"-> {calibration.ece_after:.1f} %",
            f"  unknown     below {100 * confidence.threshold:.1f} %: {confidence.basis}",
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])
