"""A quantization as text: a line a rung as they come, two tables at the end, and what to know of it in sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.formatting import megabytes
from mobilenets.quantization.results import QuantizationReport, Rung, RuntimeRow, Top1, within

if TYPE_CHECKING:
    from rich.table import Table

CHOSEN_MARK = "★"
"""Times within 3 % of each other are called the same, like those that differ by less than they scatter: it is noise."""


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
    from rich import box
    from rich.table import Table

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
    from rich import box
    from rich.table import Table

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
    return [first, *report.notes]


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


def with_notes(report: QuantizationReport) -> QuantizationReport:
    """The report with what follows from its figures ahead of its notes: what to doubt, and where int8 is faster."""
    said = [*_doubts(report), *_size(report), *_speed(report.runtimes), *_fastest(report), *_tensorrt(report)]
    return replace(report, notes=(*said, *report.notes))


def _doubts(report: QuantizationReport) -> list[str]:
    said = []
    if report.float_top1.whole <= report.chance_level:
        said.append(
            f"the float network's top-1 is {report.float_top1.whole:.1f} %, no more than always answering the same "
            f"class ({report.chance_level:.1f} %): a drop from there means nothing, train it first"
        )
    split = "validation" if report.validated else "test"
    image = 100 / report.selection_images
    if image > report.max_drop / 2:
        said.append(
            f"only {report.selection_images} images decide, one of them is {image:.2f} points: "
            f"a drop of {report.max_drop:g} is hardly measured; give more {split} images"
        )
    drop = report.best.drop.report
    if not report.refused and drop is not None and not within(drop, report.max_drop):
        others = "test images" if report.validated else "images that did not decide"
        again = "; don't choose again by them" if report.validated else ""
        said.append(
            f"on the {report.report_images} {others} it loses {drop:.2f} points, more than {report.max_drop:g}: it "
            f"may lose too much on other images, too{again}"
        )
    return said


def _size(report: QuantizationReport) -> list[str]:
    sizes = {row.file: row.file_bytes for row in report.runtimes}
    return [f"the int8 file is {sizes['float'] / sizes['int8']:.1f} times smaller"] if "int8" in sizes else []


def _speed(rows: tuple[RuntimeRow, ...]) -> list[str]:
    """One sentence a runtime: int8 against float32, plainly."""
    floats = {row.backend: row for row in rows if row.file == "float" and row.precision == "fp32"}
    said = []
    for row in rows:
        if row.file != "int8" or row.backend not in floats:
            continue
        where = f"in {row.backend} on one thread of this machine"
        in_float = floats[row.backend]
        ratio = row.latency.median_ms / in_float.latency.median_ms
        if in_float.label in row.as_fast:
            said.append(f"int8 is as fast as float32 {where}")
        elif ratio > 1:
            said.append(f"int8 is {ratio:.2f} times SLOWER than float32 {where}")
        else:
            said.append(f"int8 is {1 / ratio:.2f} times faster than float32 {where}")
    return said


def _fastest(report: QuantizationReport) -> list[str]:
    able = [row for row in report.runtimes if within(max(row.drop.selection, row.drop.whole), report.max_drop)]
    if not able:
        return []
    row = min(able, key=lambda row: row.latency.median_ms)
    same = [_way(other) for other in able if other.label in row.as_fast]
    return [
        f"fastest here within {report.max_drop:g} points: {_way(row)}, {row.latency.median_ms:.2f} ms on one thread"
        f"{'; as fast: ' * bool(same)}{', '.join(same)}"
    ]


def _way(row: RuntimeRow) -> str:
    return f"the {row.file} file in {row.backend} in {row.precision}"


def _tensorrt(report: QuantizationReport) -> list[str]:
    if report.keeps_tensorrt_rules is None:
        return []
    if report.keeps_tensorrt_rules:
        return ["the file keeps TensorRT's rules for explicit quantization (symmetric int8); it was not run there"]
    return ["TensorRT won't take this file, which is not symmetric int8 throughout: --tensorrt makes one it can"]
