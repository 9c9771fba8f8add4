"""A deployment for a terminal: the table of ways, what became of the files, and the decision."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mobilenets.benchmarking.benchmark_text import FASTEST_MARK
from mobilenets.compression.results import within
from mobilenets.deployment.results import DeploymentReport, Way
from mobilenets.deployment.words import advantage_sentence, choice_sentence, headline, shell_commands
from mobilenets.evaluation.wording import megabytes, three_digits


def deploy_text(report: DeploymentReport) -> RenderableType:
    """Lay the report out; the decision comes last, where a terminal ends."""
    lines = [f"{one.status}: {one.name}: {one.reason}" for one in report.files if one.reason]
    lines += [f"note: {note}" for note in report.notes]
    lines += ["", f"{headline(report)}: {report.decision.reason}", choice_sentence(report)]
    lines += [f"  {advantage_sentence(one)}" for one in report.advantages]
    lines += ["", f"Written: {report.path}; run it without PyTorch:"]
    lines += [f"  {line}" for line in shell_commands(report).splitlines()]
    # Text, not str: a path with square brackets must not be read as rich's markup.
    return Group(ways_table(report), *(Text(line) for line in lines))


def ways_table(report: DeploymentReport) -> Table:
    """Every way to run the files, the fastest first; what lost too much accuracy is dimmed."""
    reference, accuracy = f"top-1 {report.float_top1:.2f} %", ["Top-1\n%", "Drop\npoints"]
    if report.test is not None:
        reference = f"validation {report.float_top1:.2f} %, test {report.test.float_top1:.2f} %"
        accuracy = ["Valid.\n%", "Test\n%"]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"{report.network}, one image at a time; PyTorch: {reference}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    table.add_column("Way", overflow="fold")
    for heading in ("Median\nms", *accuracy, "File\nMB", "Memory\nMiB", "Start\nms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold")
    for way in report.ways:
        kept = way.label == report.decision.label
        table.add_row(
            Text(FASTEST_MARK if kept else ""),
            Text(way.label),
            three_digits(way.latency.median_ms),
            f"{way.top1:.2f}",
            _drop_or_test(report, way),
            megabytes(way.file_bytes),
            three_digits(way.peak_memory_mb),
            three_digits(way.cold_start_ms),
            Text(report.verdict(way)),
            style="bold" if kept else None if within(way.drop, report.max_drop) else "dim",
        )
    return table


def _drop_or_test(report: DeploymentReport, way: Way) -> str:
    """Beside the accuracy that decided, that on the test images; a terminal has no room for both drops."""
    if report.test is None:
        return f"{way.drop:.2f}"
    return "" if way.test_top1 is None else f"{way.test_top1:.2f}"
