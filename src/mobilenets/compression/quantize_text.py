"""A quantization as text: a line a rung as they come, two tables at the end, and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from mobilenets.compression.results import QuantizationReport, Rung

CHOSEN_MARK = "★"


def rung_line(rung: Rung, max_drop: float) -> str:
    """What a rung did, as one line for the progress display."""
    verdict = "within" if rung.drop.selection <= max_drop else "more than"
    bought = f", buys {rung.bought:+.2f}" if rung.bought else ""
    return (
        f"  {rung.name}: top-1 {rung.top1.selection:.2f} %, loses {rung.drop.selection:.2f} points "
        f"({verdict} {max_drop:g}){bought}; {size(rung.file_bytes)}, {rung.seconds:.0f} s"
    )


def rung_table(report: QuantizationReport) -> Table:
    """Every rung tried: accuracy, drop on both halves and on all, what it bought, size."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{report.network}: the ladder, {report.max_drop:g} points allowed")
    for heading in ("", "Rung"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Decides\ntop-1 %", "drop", "bought", "Other half\ndrop", "All\ntop-1 %", "drop", "Size"):
        table.add_column(heading, justify="right")
    top1 = report.float_top1
    table.add_row("", "float32", f"{top1.selection:.2f}", "", "", "", f"{top1.whole:.2f}", "", size(report.float_bytes))
    for rung in report.rungs:
        table.add_row(
            CHOSEN_MARK if rung.name == report.chosen else "",
            rung.name,
            f"{rung.top1.selection:.2f}",
            f"{rung.drop.selection:.2f}",
            "" if rung is report.rungs[0] else f"{rung.bought:+.2f}",
            f"{rung.drop.report:.2f}",
            f"{rung.top1.whole:.2f}",
            f"{rung.drop.whole:.2f}",
            size(rung.file_bytes),
        )
    return table


def runtime_table(report: QuantizationReport) -> Table:
    """Every way to run the files here: accuracy, latency of one image, size."""
    table = Table(box=box.SIMPLE_HEAD, title="On this machine, one image at a time")
    for heading in ("File", "Runtime", "Precision"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Top-1 %\nall", "Drop\nall", "Latency\nms", "p95\nms", "Size"):
        table.add_column(heading, justify="right")
    for row in report.runtimes:
        table.add_row(
            row.file,
            row.backend,
            row.precision,
            f"{row.top1.whole:.2f}",
            f"{row.drop.whole:.2f}",
            f"{row.latency.median_ms:.2f}",
            f"{row.latency.p95_ms:.2f}",
            size(row.file_bytes),
        )
    return table


def conclusion(report: QuantizationReport) -> list[str]:
    """What came out and what to know of it, a sentence each."""
    if report.refused:
        first = f"refused: no 8-bit {report.network} within {report.max_drop:g} points; kept {report.out} in float32"
    else:
        best = report.best
        first = (
            f"{report.out}: {best.name}, loses {best.drop.selection:.2f} points on the {report.selection_images} "
            f"images that decided, {best.drop.report:.2f} on the {report.report_images} others, "
            f"{best.drop.whole:.2f} on all"
        )
    return [first, *report.remarks]


def quantization_record(report: QuantizationReport) -> dict[str, Any]:
    """The report as JSON can hold it."""
    record: dict[str, Any] = _finite({**asdict(report), "refused": report.refused})
    return record


def size(count: int) -> str:
    """Bytes as people read them: `0.87 MB`, a megabyte being a million."""
    return f"{count / 1e6:.2f} MB"


def _finite(value: Any) -> Any:
    """JSON knows no numbers that are none."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
