"""What the page shows of a deployment: its records turned into words and figures, in the order they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mobilenets.benchmarking.results import BenchmarkRow
from mobilenets.compression.results import QuantizationReport, within
from mobilenets.deployment.choosing import points
from mobilenets.deployment.measuring import BATCH
from mobilenets.deployment.results import DeploymentReport, FileOutcome, Way
from mobilenets.deployment.words import (
    advantage_sentence,
    drop_words,
    headline,
    python_lines,
    settings_words,
    shell_commands,
)
from mobilenets.evaluation.results import Latency
from mobilenets.evaluation.wording import megabytes, three_digits
from mobilenets.report.deployment_page import Cell, DeploymentView, FileView, LadderView, WayView

COLUMNS = (
    ("Latency", "ms", False),
    ("Top-1", "%", True),
    ("File", "MB", False),
    ("Peak memory", "MiB", False),
    ("Cold start", "ms", False),
)
RUNG_HEADINGS = ("Rung", "Top-1 %, deciding half", "Drop", "Bought", "Drop, other half", "Drop, all", "Size MB")
MISSING = "–"


def page_view(report: DeploymentReport) -> DeploymentView:
    """Turn a report into what its page shows."""
    kept = report.kept
    return DeploymentView(
        title=f"{report.network} on this machine",
        lead=f"{report.data}; PyTorch answers {report.float_top1:.2f} % of them rightly, "
        f"{points(report.max_drop)} may be lost",
        headline=headline(report),
        holds=report.decision.holds,
        reason=report.decision.reason,
        keys=(
            ("Latency", f"{three_digits(kept.latency.median_ms)} ms", f"p95 {three_digits(kept.latency.p95_ms)}"),
            ("Top-1", f"{kept.top1:.2f} %", drop_words(kept.drop)),
            ("File", f"{megabytes(kept.file_bytes)} MB", ""),
            ("Peak memory", f"{three_digits(kept.peak_memory_mb)} MiB", ""),
            ("Runs in", settings_words(report), ""),
        ),
        advantages=tuple(advantage_sentence(one) for one in report.advantages),
        shell=shell_commands(report),
        python=python_lines(report),
        columns=COLUMNS,
        ways=tuple(_rows(report)),
        files=tuple(_file(one) for one in report.files),
        rung_headings=RUNG_HEADINGS,
        ladders=tuple(_ladder(one) for one in report.quantizations),
        notes=report.notes,
        measured=tuple(_measured(report)),
        environment=dict(report.environment),
        command=report.command,
        created=report.created,
        benchmark=report.survey,
    )


def _rows(report: DeploymentReport) -> Iterator[WayView]:
    peers = [
        (one.latency, _peer(row, one.latency)) for row in report.survey.rows if row.peer and (one := row.at(BATCH))
    ]
    rows = [(way.latency, _way(report, way)) for way in report.ways] + peers
    for _, view in sorted(rows, key=lambda pair: pair[0].median_ms):
        yield view


def _way(report: DeploymentReport, way: Way) -> WayView:
    kept = way.label == report.decision.label
    mark = "kept" if kept else "" if within(way.drop, report.max_drop) else "out"
    cells = (
        _latency(way.latency),
        Cell(way.top1, f"{way.top1:.2f}", _points(way.drop)),
        Cell(way.file_bytes, megabytes(way.file_bytes)),
        *_costs(way),
    )
    return WayView(way.label, mark, cells, report.verdict(way))


def _peer(row: BenchmarkRow, latency: Latency) -> WayView:
    top1 = Cell(None, MISSING) if row.top1 is None else Cell(row.top1, f"{row.top1:.2f}")
    return WayView(row.label, "peer", (_latency(latency), top1, Cell(None, MISSING), *_costs(row)), "for comparison")


def _latency(latency: Latency) -> Cell:
    return Cell(latency.median_ms, three_digits(latency.median_ms), f"p95 {three_digits(latency.p95_ms)}")


def _costs(row: Way | BenchmarkRow) -> tuple[Cell, Cell]:
    return (
        Cell(row.peak_memory_mb, three_digits(row.peak_memory_mb)),
        Cell(row.cold_start_ms, three_digits(row.cold_start_ms)),
    )


def _points(drop: float) -> str:
    rounded = round(-drop, 2) + 0.0
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "±0"


def _file(outcome: FileOutcome) -> FileView:
    size = megabytes(outcome.file_bytes) if outcome.status == "made" else MISSING
    return FileView(outcome.name, outcome.status, size, outcome.reason)


def _ladder(report: QuantizationReport) -> LadderView:
    top1 = report.float_top1
    rows = [("float32", f"{top1.selection:.2f}", "", "", "", "", megabytes(report.float_bytes))]
    for number, rung in enumerate(report.rungs):
        rows.append(
            (
                rung.name,
                f"{rung.top1.selection:.2f}",
                f"{rung.drop.selection:.2f}",
                f"{rung.bought:+.2f}" if number else "",
                f"{rung.drop.report:.2f}",
                f"{rung.drop.whole:.2f}",
                megabytes(rung.file_bytes),
            )
        )
    chosen = next((number for number, rung in enumerate(report.rungs, 1) if rung.name == report.chosen), None)
    outcome = "refused" if report.refused else Path(report.out).name
    return LadderView(f"{report.kind}: {outcome}", tuple(rows), chosen, report.remarks)


def _measured(report: DeploymentReport) -> Iterator[tuple[str, str]]:
    yield (
        "Top-1",
        f"Share of {report.data} whose first answer is right, asked of each file in each runtime and precision itself. "
        "Below it, points against the network in PyTorch.",
    )
    yield (
        "Latency",
        "One image at a time. Every way runs in a process of its own, on as many cores as it has threads, and all take "
        "turns, so that what slows the machine slows all alike; a call before each turn is not counted. "
        f"{report.survey.settings.get('seconds', '')} s each.",
    )
    if report.final is not None:
        yield (
            "As fast as",
            "The kept way measured once more, beside PyTorch eager (the same network, normalized images ready) and the "
            "float file opened in ONNX Runtime and OpenVINO with their own defaults. In brackets the 95 % interval, by "
            "bootstrap over the rounds. Each peer counts with the number of threads it is fastest with.",
        )
    yield "File", "Bytes on disk, class names, preprocessing and golden answers included. 1 MB is a million bytes."
    yield (
        "Peak memory, cold start",
        "Of a fresh process that loads the file and answers one image, Python included. 1 MiB is 1,048,576 bytes.",
    )
