"""A deployment's `report.html`: the file to take, how to run it, and everything it was chosen from, on one page.

Like the comparison's page it needs no network and no server. This room knows nothing of how a deployment is made: it
is handed a view, words and figures in the order they are shown.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mobilenets.benchmarking.results import BenchmarkReport
from mobilenets.files import write_text_atomically
from mobilenets.report.benchmark_plot import benchmark_figure
from mobilenets.report.canvas import drawing, svg
from mobilenets.report.wording import plural

PLOT = "deployment"


@dataclass(frozen=True)
class Cell:
    """One figure of a row: what it sorts by (None sorts last), how it is written, and a remark below it."""

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
    """The rungs climbed to one 8-bit file: a caption, rows of text, the chosen row's number, and remarks."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    chosen: int | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class DeploymentView:
    """All the page shows.

    Attributes:
        title: the page's.
        lead: network, images and bound in one line.
        headline: the decision in a few words.
        holds: whether the kept file is within the bound.
        reason: why it is the one.
        keys: its figures: heading, figure, remark.
        advantages: how it compares with its peers, a sentence each.
        shell: commands that install its runtime and run it.
        python: the same in Python.
        columns: heading, unit, and whether more is better, of the ways' cells.
        ways: fastest first.
        files: what was made.
        rung_headings: of the ladders.
        ladder_lead: which images they were climbed by, a sentence.
        ladders: the rungs climbed.
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
    environment = Environment(
        loader=PackageLoader("mobilenets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    script = environment.get_template("sort.js").render()
    return environment.get_template("deployment.html").render(
        view=view,
        plot=Markup(_plot(view)),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _plot(view: DeploymentView) -> str:
    described = (
        f"Latency of {plural(len(view.ways), 'way')} to run the files, and accuracy against latency. "
        "The table holds the figures."
    )
    with drawing(PLOT):
        return svg(benchmark_figure(view.benchmark), PLOT, described)
