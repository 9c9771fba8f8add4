"""A deployment's `report.html`, and the JSON and picture beside it.

The page shows the recommended file, how to run it, and everything it was chosen from. Like the comparison's page it
needs no network and no server. `page_view` turns the report into words and figures in the order they are shown, and the
template lays these out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow
from mobilenets.deployment.measure import BATCH
from mobilenets.deployment.results import DeploymentReport, DeploymentTest, FileOutcome, Way
from mobilenets.evaluation.results import Latency
from mobilenets.files import write_text_atomically
from mobilenets.formatting import MISSING, megabytes, plural, three_digits
from mobilenets.quantization.results import QuantizationReport, points, within
from mobilenets.report.deploy import (
    advantage_sentence,
    choice_sentence,
    drop_words,
    headline,
    python_lines,
    settings_words,
    shell_commands,
)
from mobilenets.report.layout import page_templates, script_digest
from mobilenets.report.plots.benchmark import benchmark_figure, benchmark_png
from mobilenets.report.plots.canvas import drawing, svg
from mobilenets.report.scores import latency_tail

PLOT = "deployment"


@dataclass(frozen=True)
class Cell:
    """One figure of a row: what it sorts by (None sorts last), how it is written, and a detail below it."""

    value: float | None
    text: str
    detail: str = ""


@dataclass(frozen=True)
class WayView:
    """One way to run a file. `mark` is `kept`, `peer`, `out` or empty; `verdict` says why it was kept or not."""

    name: str
    mark: str
    cells: tuple[Cell, ...]
    verdict: str


@dataclass(frozen=True)
class FileView:
    """What became of one file: its name, `made`, `missing`, `failed` or `refused`, its size, and why there is none."""

    name: str
    status: str
    size: str
    reason: str


@dataclass(frozen=True)
class LadderView:
    """The rungs tried for one 8-bit file: a caption, rows of text, the chosen row's number, and notes."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    chosen: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DeploymentView:
    """All the page shows.

    Attributes:
        title: the page's.
        lead: network, images and bound in one line.
        headline: the decision in a few words.
        holds: whether the kept file is within the bound.
        reason: why it is the one.
        keys: its figures: heading, figure, detail.
        advantages: how it compares with its peers, a sentence each.
        shell: commands that install its runtime and run it.
        python: the same in Python.
        columns: heading, unit, and whether more is better, of the ways' cells.
        ways: fastest first.
        files: what was made.
        rung_headings: of the ladders.
        ladder_lead: which images they were scored on, a sentence.
        ladders: the rungs tried.
        notes: what the reader should know, a sentence each.
        measured: how each figure was found: term and explanation.
        environment: the machine and versions.
        command: how the deployment was asked for.
        created: when.
        benchmark: what is drawn.
    """

    title: str
    lead: str
    headline: str
    holds: bool
    reason: str
    keys: tuple[tuple[str, str, str], ...]
    advantages: tuple[str, ...]
    shell: str
    python: str
    columns: tuple[tuple[str, str, bool], ...]
    ways: tuple[WayView, ...]
    files: tuple[FileView, ...]
    rung_headings: tuple[str, ...]
    ladder_lead: str
    ladders: tuple[LadderView, ...]
    notes: tuple[str, ...]
    measured: tuple[tuple[str, str], ...]
    environment: dict[str, str]
    command: str
    created: str
    benchmark: BenchmarkReport


def write_deployment_page(view: DeploymentView, path: Path) -> None:
    """Write the page as one self-contained HTML file.

    Raises:
        RunError: the file can't be written.
    """
    write_text_atomically(path, render_deployment_page(view))


def render_deployment_page(view: DeploymentView) -> str:
    """Return the page's HTML; the same view gives the same text.

    Raises:
        ValueError: the benchmark holds no row to draw.
    """
    environment = page_templates()
    return environment.get_template("deployment.html").render(
        view=view,
        plot=Markup(_plot(view)),
        script_digest=script_digest(environment),
    )


def _plot(view: DeploymentView) -> str:
    described = (
        f"Latency of {plural(len(view.ways), 'way')} to run the files, and accuracy against latency. "
        "The table holds the figures."
    )
    with drawing(PLOT):
        return svg(benchmark_figure(view.benchmark), PLOT, described)


COSTS = (
    ("File", "MB", False),
    ("Peak memory", "MiB", False),
    ("Cold start", "ms", False),
)
RUNG_HEADINGS = ("Rung", "Top-1 %, deciding half", "Drop", "Bought", "Drop, other half", "Drop, all", "Size MB")
VALIDATED_RUNG_HEADINGS = ("Rung", "Top-1 %, validation", "Drop", "Bought", "Size MB")


def page_view(report: DeploymentReport) -> DeploymentView:
    """Turn a report into what its page shows."""
    kept, tested = report.kept, report.test is not None
    return DeploymentView(
        title=f"{report.network} on this machine",
        lead=f"Chosen on {report.data}; PyTorch's top-1 on them is {report.float_top1:.2f} %, "
        f"{points(report.max_drop)} may be lost",
        headline=headline(report),
        holds=report.decision.holds,
        reason=f"{report.decision.reason} {choice_sentence(report)}",
        keys=(
            ("Latency", f"{three_digits(kept.latency.median_ms)} ms", latency_tail(kept.latency)),
            *_accuracies(report),
            ("File", f"{megabytes(kept.file_bytes)} MB", ""),
            ("Peak memory", f"{three_digits(kept.peak_memory_mb)} MiB", ""),
            ("Runs in", settings_words(report), ""),
        ),
        advantages=tuple(advantage_sentence(one) for one in report.advantages),
        shell=shell_commands(report),
        python=python_lines(report),
        columns=(
            ("Latency", "ms", False),
            *((("Validation", "%", True), ("Test", "%", True)) if tested else (("Top-1", "%", True),)),
            *COSTS,
        ),
        ways=tuple(_rows(report)),
        files=tuple(_file(one) for one in report.files),
        rung_headings=VALIDATED_RUNG_HEADINGS if tested else RUNG_HEADINGS,
        ladder_lead="The validation images decide; the test images had no part in it."
        if tested
        else "One half of the test images decides; the other half had no part in it.",
        ladders=tuple(_ladder(one) for one in report.quantizations),
        notes=report.notes,
        measured=tuple(_measured(report)),
        environment=dict(report.environment),
        command=report.command,
        created=report.created,
        benchmark=report.survey,
    )


def _accuracies(report: DeploymentReport) -> Iterator[tuple[str, str, str]]:
    """The kept way's accuracy; that on the test images first, as the one that nothing was chosen by."""
    kept, drop = report.kept, report.test_drop(report.kept)
    if report.test is None:
        yield "Top-1", f"{kept.top1:.2f} %", drop_words(kept.drop)
        return
    if drop is not None:
        yield "Top-1, test images", f"{kept.test_top1:.2f} %", drop_words(drop)
    yield "Top-1, validation images", f"{kept.top1:.2f} %", drop_words(kept.drop)


def _rows(report: DeploymentReport) -> Iterator[WayView]:
    peers = [
        (one.latency, _peer(row, one.latency, report.test))
        for row in report.survey.rows
        if row.peer and (one := row.at(BATCH))
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
        *([] if report.test is None else [_tested(way.test_top1, report.test)]),
        Cell(way.file_bytes, megabytes(way.file_bytes)),
        *_costs(way),
    )
    return WayView(way.label, mark, cells, report.verdict(way))


def _tested(top1: float | None, test: DeploymentTest) -> Cell:
    return Cell(None, MISSING) if top1 is None else Cell(top1, f"{top1:.2f}", _points(test.float_top1 - top1))


def _peer(row: BenchmarkRow, latency: Latency, test: DeploymentTest | None) -> WayView:
    top1 = Cell(None, MISSING) if row.top1 is None else Cell(row.top1, f"{row.top1:.2f}")
    own = row.backend == "pytorch" and test is not None  # PyTorch eager is the network itself
    tested = [] if test is None else [Cell(test.float_top1, f"{test.float_top1:.2f}") if own else Cell(None, MISSING)]
    cells = (_latency(latency), top1, *tested, Cell(None, MISSING), *_costs(row))
    return WayView(row.label, "peer", cells, "for comparison")


def _latency(latency: Latency) -> Cell:
    return Cell(latency.median_ms, three_digits(latency.median_ms), latency_tail(latency))


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
    others = () if report.validated else ("", "")
    rows: list[tuple[str, ...]] = [
        ("float32", f"{top1.selection:.2f}", "", "", *others, megabytes(report.float_bytes)),
    ]
    for number, rung in enumerate(report.rungs):
        drop = rung.drop
        rows.append(
            (
                rung.name,
                f"{rung.top1.selection:.2f}",
                f"{drop.selection:.2f}",
                f"{rung.bought:+.2f}" if number else "",
                *(() if drop.report is None else (f"{drop.report:.2f}", f"{drop.whole:.2f}")),
                megabytes(rung.file_bytes),
            )
        )
    chosen = next((number for number, rung in enumerate(report.rungs, 1) if rung.name == report.chosen), None)
    outcome = "refused" if report.refused else Path(report.out).name
    return LadderView(f"{report.kind}: {outcome}", tuple(rows), chosen, report.notes)


def _measured(report: DeploymentReport) -> Iterator[tuple[str, str]]:
    yield (
        "Top-1" if report.test is None else "Validation",
        f"Share of {report.data} answered correctly, asked of each file in each runtime and precision itself. "
        "Below it, points against the network in PyTorch. The choice is made by it.",
    )
    if report.test is not None:
        yield (
            "Test",
            f"The same on {report.test.data}, asked once, when the choice had been made. Nothing was chosen by it.",
        )
    yield (
        "Latency",
        "One image at a time. Every way runs in a process of its own, on as many cores as it has threads, and all take "
        "turns, so that what slows the machine slows all equally; a call before each turn is not counted. "
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


JSON_FILE, PAGE, PICTURE = "report.json", "report.html", "latency-accuracy.png"


def write_report(report: DeploymentReport, folder: Path) -> None:
    """Write `report.json`, `report.html` and `latency-accuracy.png` into a folder, each whole or not at all.

    Raises:
        RunError: they can't be written.
    """
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(folder / JSON_FILE, text + "\n")
    benchmark_png(report.survey, folder / PICTURE)
    write_deployment_page(page_view(report), folder / PAGE)
