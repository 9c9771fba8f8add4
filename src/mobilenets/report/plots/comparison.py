"""The comparison's pictures, as inline SVG strings and one PNG for a README."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mobilenets.evaluation.results import Comparison, NetworkRow, SeedRun
from mobilenets.files import write_bytes_atomically
from mobilenets.formatting import plural, short_labels, shortened
from mobilenets.report.plots.canvas import INK, LINE, PAPER, RIGHT, WRONG, colour, drawing, new_figure, svg
from mobilenets.report.plots.scatter import Cost, cost_axis, draw_accuracy, latency_key

CurveQuantity = Literal["loss", "top1", "validation_top1"]

_CURVE_WORDS: dict[CurveQuantity, str] = {
    "loss": "training loss",
    "top1": "training accuracy (%)",
    "validation_top1": "validation accuracy (%)",
}
_WIDTH, _HEIGHT = 6.0, 4.5  # inches of 72 units: narrow, so that 10 point text is still legible on a phone
_LEGEND_ROW = 0.24
_COUNTED_CLASSES = 12  # up to here a confusion matrix has space for its counts,
_NAMED_CLASSES = 20  # and up to here for the name of every class
_NAME_LENGTH = 18
_STRONG = 0.8  # from this opacity on white is easier to read on a shade than ink


def accuracy_plot(comparison: Comparison, cost: Cost) -> str:
    """Draw test accuracy against a cost: named points, 95 % intervals, the bounds, the chosen network ringed.

    Args:
        comparison: at least one network.
        cost: `macs` and `parameters` in millions, `memory` in MiB, or `latency` in milliseconds with a bar to the 95th
            percentile.

    Raises:
        ValueError: `latency` when no runtime was measured on every network.
    """
    name = f"accuracy-{cost}"
    axis = cost_axis(comparison, cost)
    best = max(comparison.rows, key=lambda row: row.test_top1.mean)
    described = (
        f"Test accuracy against {axis.words} of {plural(len(comparison.rows), 'network')}; the most accurate is "
        f"{best.label} with {best.test_top1.mean:.1f} %. The table holds the figures."
    )
    with drawing(name):
        figure, axes = new_figure(_WIDTH, _HEIGHT + 0.15 * max(0, len(comparison.rows) - 6))
        figure.subplots_adjust(left=0.13, right=0.98, top=0.95, bottom=0.13)
        draw_accuracy(axes, comparison, axis)
        return svg(figure, name, described)


def curves_plot(comparison: Comparison, quantity: CurveQuantity) -> str:
    """Draw a quantity by epoch: each network's mean over seeds, each seed as a thin line behind it."""
    name = f"curves-{quantity}"
    words = _CURVE_WORDS[quantity]
    legend_rows = -(-len(comparison.rows) // 2)
    height = _HEIGHT - 0.7 + _LEGEND_ROW * legend_rows
    with drawing(name):
        figure, axes = new_figure(_WIDTH, height)
        figure.subplots_adjust(left=0.13, right=0.98, top=0.98, bottom=(0.62 + _LEGEND_ROW * legend_rows) / height)
        for index, row in enumerate(comparison.rows):
            _draw_curve(axes, row, index, quantity)
        axes.set_xlabel("epoch")
        axes.set_ylabel(words)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        labels = short_labels([row.label for row in comparison.rows])
        lines = [line for line in axes.get_lines() if line.get_gid() == "mean"]
        figure.legend(lines, labels, loc="lower center", ncols=2, borderaxespad=0.2)
        return svg(figure, name, f"{words.capitalize()} by epoch of {plural(len(comparison.rows), 'network')}")


def validated(comparison: Comparison) -> bool:
    """Whether every epoch of every run was scored on validation images."""
    points = [point for row in comparison.rows for run in row.runs for point in run.curve]
    return bool(points) and all(point.validation_top1 is not None for point in points)


def _draw_curve(axes: Axes, row: NetworkRow, index: int, quantity: CurveQuantity) -> None:
    seeds = [np.array([getattr(point, quantity) for point in run.curve]) for run in row.runs]
    epochs = [[point.epoch for point in run.curve] for run in row.runs]
    if len(seeds) > 1:
        for at, values in zip(epochs, seeds, strict=True):
            axes.plot(at, values, color=colour(index), linewidth=0.7, alpha=0.35)
    # The mean is over every seed: it ends with the shortest run.
    shared = min((len(values) for values in seeds), default=0)
    mean = np.mean([values[:shared] for values in seeds], axis=0) if shared else []
    dot = "o" if shared == 1 else ""  # one epoch makes no line
    dashes = "-" if index < 7 else (0, (4, 1.5))  # past the seven colours told apart best
    (line,) = axes.plot(
        epochs[0][:shared] if shared else [], mean, color=colour(index), linewidth=1.8, linestyle=dashes, marker=dot
    )
    line.set_gid("mean")


def total_confusion(runs: tuple[SeedRun, ...]) -> npt.NDArray[np.int64]:
    """Return the test confusion counts `[truth, called]` added over all seeds."""
    total: npt.NDArray[np.int64] = np.sum([np.asarray(run.test.confusion, dtype=np.int64) for run in runs], axis=0)
    return total


def confusion_plot(row: NetworkRow, name: str) -> str:
    """Draw a network's confusion matrix over all its seeds: right calls in one colour, wrong ones in another.

    A cell's shade grows with the square root of its share of that class's images, so that rare mistakes show. Up to
    12 classes have their counts written in, up to 20 are all named, of more every few.

    Args:
        row: a network with at least one run.
        name: the picture's name, different for each picture on a page.
    """
    counts = total_confusion(row.runs)
    classes = [shortened(score.name, _NAME_LENGTH) for score in row.runs[0].test.classes]
    size = min(5.6, 2.6 + 0.3 * len(classes)) if len(classes) <= _NAMED_CLASSES else 5.6
    right = int(np.trace(counts))
    described = (
        f"Confusion matrix of {row.label}: {right:,} of {plural(int(counts.sum()), 'call')} right, "
        f"{plural(len(classes), 'class')}; rows are the truth, columns the answers."
    )
    with drawing(name):
        longest = max(len(label) for label in classes)
        margin = 0.45 + 0.085 * longest
        figure, axes = new_figure(size + margin, size + margin)
        figure.subplots_adjust(left=margin / (size + margin), right=0.995, bottom=margin / (size + margin), top=0.995)
        axes.imshow(_shades(counts), interpolation="none", aspect="equal")
        _write_counts(axes, counts)
        _name_classes(axes, classes)
        return svg(figure, name, described)


def _shades(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return `[truth, called, RGBA]`: transparent where nothing was called, so that the page's own colour shows."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    correct = np.eye(len(counts), dtype=bool)
    shades = np.empty((*counts.shape, 4))
    shades[..., :3] = np.where(correct[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    shades[..., 3] = 0.9 * np.sqrt(share)
    return shades


def _write_counts(axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    if len(counts) > _COUNTED_CLASSES:
        return
    shades = _shades(counts)[..., 3]
    for truth, called in np.argwhere(counts):
        # White on a strong shade; on a weak one the page's own ink.
        tint = "#ffffff" if shades[truth, called] > _STRONG else INK
        axes.text(called, truth, f"{counts[truth, called]}", ha="center", va="center", color=tint, fontsize=9.5)


def _name_classes(axes: Axes, classes: list[str]) -> None:
    step = -(-len(classes) // _NAMED_CLASSES)
    places = range(0, len(classes), step)
    named = [classes[place] for place in places]
    axes.set_xticks(list(places), named, rotation=90, fontsize=9.5)
    axes.set_yticks(list(places), named, fontsize=9.5)
    axes.tick_params(length=0)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE)


def summary_png(comparison: Comparison, path: Path) -> None:
    """Write one picture for a README: test accuracy against latency (where measured) and multiply-adds.

    Raises:
        RunError: the file can't be written.
    """
    costs: list[Cost] = ["macs"] if latency_key(comparison) is None else ["latency", "macs"]
    with drawing("summary"):
        figure = Figure(figsize=(6.2 * len(costs), 4.6), dpi=110, facecolor=PAPER)
        FigureCanvasAgg(figure)
        figure.subplots_adjust(left=0.14 / len(costs), right=0.99, top=0.95, bottom=0.13, wspace=0.16)
        for position, cost in enumerate(costs):
            axes = figure.add_subplot(1, len(costs), position + 1)
            draw_accuracy(axes, comparison, cost_axis(comparison, cost))
        image = io.BytesIO()
        figure.savefig(image, format="png", facecolor=PAPER, metadata={"Software": None})
    write_bytes_atomically(path, image.getvalue())
