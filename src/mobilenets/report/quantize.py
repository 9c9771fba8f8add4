"""A quantization as text: a line a rung as they come, two tables at the end, and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from mobilenets.formatting import megabytes
from mobilenets.quantization.results import QuantizationReport, Rung, Top1, within

CHOSEN_MARK = "★"


def rung_line(rung: Rung, max_drop: float, *, first: bool) -> str:
    """What a rung did, as one line for the progress display."""
    verdict = "within" if within(rung.lost, max_drop) else "more than"
    bought = "" if first else f", buys {rung.bought:.2f}" if rung.bought > 0 else ", buys nothing"
    on_all = "" if rung.drop.report is None else f", on all images {lost(rung.drop.whole)}"
    return (
        f"  {rung.name}: top-1 {rung.top1.selection:.2f} %, {lost(rung.drop.selection)}{on_all} "
        f"({verdict} {max_drop:g}){bought}; {megabytes(rung.file_bytes)} MB, {rung.seconds:.0f} s"
    )


def lost(drop: float) -> str:
    """A drop as words: `loses 2.10 points`, or `gains` them where the 8-bit network happens to be right more often."""
    return f"loses {drop:.2f} points" if drop >= 0 else f"gains {-drop:.2f} points"


def rung_table(report: QuantizationReport) -> Table:
    """Every rung tried: accuracy and drop on the images that decide, what it bought, size; the others' where asked."""
    others = ("Test\ntop-1 %", "\ndrop") if report.validated else ("Others\ndrop", "All\ntop-1 %", "\ndrop")
    decides = "Validation" if report.validated else "Decides"
    title = f"{report.network}: the ladder, {report.max_drop:g} points allowed"
    table = Table(box=box.SIMPLE_HEAD, title=title, padding=(0, 1), collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("Rung", overflow="fold")  # the one column that may break its lines: no number may
    for heading in (f"{decides}\ntop-1 %", "\ndrop", "\nbought", *others, "Size\nMB"):
        table.add_column(heading, justify="right", no_wrap=True)
    top1, in_float = report.float_top1, megabytes(report.float_bytes)
    table.add_row("", "float32", f"{top1.selection:.2f}", "", "", *_others(top1, None, report.validated), in_float)
    for rung in report.rungs:
        table.add_row(
            CHOSEN_MARK if rung.name == report.chosen else "",
            rung.name,
            f"{rung.top1.selection:.2f}",
            f"{rung.drop.selection:.2f}",
            "" if rung is report.rungs[0] else f"{rung.bought:+.2f}",
            *_others(rung.top1, rung.drop, report.validated),
            megabytes(rung.file_bytes),
        )
    return table


def _others(top1: Top1, drop: Top1 | None, validated: bool) -> tuple[str, ...]:
    """Cells of the images that don't decide; without a drop, of the float file."""
    lost_on = ("", "") if drop is None else (_number(drop.report), f"{drop.whole:.2f}")
    return (_number(top1.report), lost_on[0]) if validated else (lost_on[0], f"{top1.whole:.2f}", lost_on[1])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def runtime_table(report: QuantizationReport) -> Table:
    """Every way to run the files here: accuracy, latency of one image on one thread, size."""
    table = Table(box=box.SIMPLE_HEAD, title="On this machine, one image at a time, one thread")
    for heading in ("File", "Runtime", "Precision"):
        table.add_column(heading, no_wrap=True)
    basis = "validation" if report.validated else "all"
    for heading in (f"Top-1 %\n{basis}", f"Drop\n{basis}", "Median\nms", "p95\nms", "Size\nMB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.runtimes:
        table.add_row(
            row.file,
            row.backend,
            row.precision,
            f"{row.top1.whole:.2f}",
            f"{row.drop.whole:.2f}",
            f"{row.latency.median_ms:.2f}",
            f"{row.latency.p95_ms:.2f}",
            megabytes(row.file_bytes),
        )
    return table


def conclusion(report: QuantizationReport) -> list[str]:
    """What came out and what to know of it, a sentence each."""
    if report.refused:
        first = f"refused: no 8-bit {report.network} within {report.max_drop:g} points; kept {report.out} in float32"
    else:
        first = f"{report.out}: {report.best.name}, {_lost_where(report)}"
    return [first, *report.remarks]


def _lost_where(report: QuantizationReport) -> str:
    drop, decided, others = report.best.drop, f"{report.selection_images:,}", f"{report.report_images:,}"
    if not report.validated:
        assert drop.report is not None  # both halves are asked
        return (
            f"{lost(drop.selection)} on the {decided} images that decided, {lost(drop.report)} on the {others} others, "
            f"{lost(drop.whole)} on all"
        )
    told = "" if drop.report is None else f", {lost(drop.report)} on the {others} test images, asked once, afterwards"
    return f"{lost(drop.selection)} on the {decided} validation images, which decided{told}"


def quantization_record(report: QuantizationReport) -> dict[str, Any]:
    """The report as JSON can hold it."""
    record: dict[str, Any] = finite({**asdict(report), "refused": report.refused})
    return record


def finite(value: Any) -> Any:
    """What JSON can hold: it knows no numbers that are none, which become null, and no tuples."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
