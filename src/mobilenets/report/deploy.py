"""A deployment for a terminal, in a table of ways, sentences and commands; the page uses the same ones."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mobilenets.benchmarking.candidates import RUNTIME_WORDS, thread_words
from mobilenets.deployment.results import Advantage, DeploymentReport, Way
from mobilenets.formatting import megabytes, three_digits
from mobilenets.install import install_line
from mobilenets.quantization.results import within
from mobilenets.report.benchmark import FASTEST_MARK
from mobilenets.report.layout import plain_table

_EXTRA = {"onnxruntime": "", "openvino": "openvino", "litert": "litert", "executorch": "executorch"}
_NOTE = {"executorch": "  # its Python bindings bring PyTorch"}


def headline(report: DeploymentReport) -> str:
    """The decision in a few words."""
    name = Path(report.path).name
    return f"Recommended: {name}" if report.decision.holds else f"Nothing holds the accuracy: kept {name}, in float"


def choice_sentence(report: DeploymentReport) -> str:
    """On which images the choice was made, and what the test images say of it."""
    if report.test is None:
        return f"Chosen on {report.data}, top-1 {report.kept.top1:.2f} %."
    drop, asked = report.test_drop(report.kept), f"the {report.test.data}, asked once, afterwards"
    if drop is None:
        return f"Chosen on {report.data}; {asked}, could not be answered."
    return f"Chosen on {report.data}. Top-1 on {asked}: {report.kept.test_top1:.2f} %, {drop_words(drop)}."


def advantage_sentence(advantage: Advantage) -> str:
    """How the kept way compares with one peer: `6.1× (5.8 to 6.4) as fast as PyTorch eager`."""
    ratio = advantage.ratio
    # All three with the digits of the first: more would pretend a precision the interval denies.
    digits = 2 if ratio.ratio < 3 else 1 if ratio.ratio < 100 else 0
    times = f"{ratio.ratio:.{digits}f}× ({ratio.low:.{digits}f} to {ratio.high:.{digits}f}) as fast as {advantage.peer}"
    if not ratio.distinct:
        return f"{times}: not measurably different"
    return times if ratio.ratio > 1 else f"{times}: slower"


def shell_commands(report: DeploymentReport) -> str:
    """What to type to run the kept file, without PyTorch."""
    install = install_line(_EXTRA[report.kept.backend]) + _NOTE.get(report.kept.backend, "")
    return f"{install}\nmobilenets predict {shlex.quote(report.path)} photos/"


def python_lines(report: DeploymentReport) -> str:
    """The same in Python."""
    return (
        "from mobilenets.runtime.classifier import Classifier\n"
        f"classifier = Classifier({report.path!r})\n"
        "answer = classifier.predict(['photo.jpg'])[0]\n"
        "print(answer.label, answer.probability)"
    )


def settings_words(report: DeploymentReport) -> str:
    """How the kept file is run when nothing else is asked for."""
    kept = report.kept
    threads = thread_words(kept.threads)
    return f"{RUNTIME_WORDS[kept.backend]} {kept.precision}, {threads}"


def drop_words(drop: float) -> str:
    """Points lost against PyTorch: `0.28 points below PyTorch`."""
    if abs(drop) < 0.005:
        return "exactly PyTorch's" if drop == 0 else "PyTorch's"
    return f"{abs(drop):.2f} points {'below' if drop > 0 else 'above'} PyTorch"


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
    table = plain_table(f"{report.network}, one image at a time; PyTorch: {reference}")
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
    """Beside the accuracy that decided, that on the test images; both drops do not fit into a terminal."""
    if report.test is None:
        return f"{way.drop:.2f}"
    return "" if way.test_top1 is None else f"{way.test_top1:.2f}"
