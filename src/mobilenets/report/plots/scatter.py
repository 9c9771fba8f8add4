"""Accuracy against one cost, drawn on given axes: named points, intervals, bounds and the chosen network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from mobilenets.evaluation.results import Comparison, NetworkRow
from mobilenets.formatting import short_labels
from mobilenets.report.plots.canvas import BOUND, INK, PAPER, Box, Point, colour, marker, place_labels
from mobilenets.report.scores import deciding_split, runtime_name, runtimes

Cost = Literal["latency", "macs", "parameters", "memory"]

_LOG_FROM = 4.0  # costs that span this factor are drawn on a logarithmic axis
_DASHES = (0, (4, 3))
_GAP = 9.0  # points between a mark and its name


@dataclass(frozen=True)
class CostAxis:
    """What lies along x: its words, a row's value and reach (a latency's 95th percentile), and the user's bound."""

    words: str
    value: Callable[[NetworkRow], float]
    reach: Callable[[NetworkRow], float]
    bound: float | None = None
    bound_words: str = ""


def latency_key(comparison: Comparison) -> str | None:
    """Return the runtime drawn and bounded: ONNX Runtime, else the first measured on every network, else None."""
    found = runtimes(row.latency for row in comparison.rows)
    everywhere = [key for key in found if all(key in row.latency for row in comparison.rows)]
    return "onnxruntime" if "onnxruntime" in everywhere else next(iter(everywhere), None)


def cost_axis(comparison: Comparison, cost: Cost) -> CostAxis:
    """Return what to draw along x.

    Raises:
        ValueError: `latency` when no runtime was measured on every network (`latency_key` is None).
    """
    bounds = comparison.bounds
    if cost == "macs":
        return CostAxis("multiply-adds (M)", lambda row: row.macs / 1e6, lambda row: row.macs / 1e6)
    if cost == "parameters":
        most = None if bounds.max_params is None else bounds.max_params / 1e6
        words = "" if most is None else f"at most {most:g} M"
        return CostAxis(
            "parameters (M)", lambda row: row.parameters / 1e6, lambda row: row.parameters / 1e6, most, words
        )
    if cost == "memory":
        return CostAxis("peak memory (MiB)", lambda row: row.peak_memory_mb, lambda row: row.peak_memory_mb)
    key = latency_key(comparison)
    if key is None:
        raise ValueError("no runtime was measured on every network")
    words = "" if bounds.max_latency_ms is None else f"at most {bounds.max_latency_ms:g} ms"
    return CostAxis(
        f"{runtime_name(key)} latency, batch 1 (ms)",
        lambda row: row.latency[key].median_ms,
        lambda row: max(row.latency[key].median_ms, row.latency[key].p95_ms),
        bounds.max_latency_ms,
        words,
    )


def draw_accuracy(axes: Axes, comparison: Comparison, cost: CostAxis) -> None:
    """Draw the picture on `axes`, whose place in the figure must be final: the names are fitted to it."""
    _scale_cost(axes, comparison, cost)
    _scale_accuracy(axes, comparison)
    for index, row in enumerate(comparison.rows):
        _draw_point(axes, row, index, cost, chosen=row.label == comparison.choice.label)
    _name_points(axes, comparison, cost, _draw_bounds(axes, comparison, cost))


def _scale_cost(axes: Axes, comparison: Comparison, cost: CostAxis) -> None:
    ends = [edge for row in comparison.rows for edge in (cost.value(row), cost.reach(row))]
    ends += [] if cost.bound is None else [cost.bound]
    low, high = min(ends), max(ends)
    if low > 0 and high / low >= _LOG_FROM:
        margin = (high / low) ** 0.09
        axes.set_xscale("log")
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
        axes.set_xlabel(f"{cost.words}, logarithmic")
    else:
        margin = max(0.12 * (high - low), 0.02 * high)
        axes.set_xlim(max(low - margin, 0.0), high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(cost.words)


def _scale_accuracy(axes: Axes, comparison: Comparison) -> None:
    ends = [edge for row in comparison.rows for edge in (row.test_top1.low, row.test_top1.high, row.test_top1.mean)]
    ends += [] if comparison.bounds.min_top1 is None else [comparison.bounds.min_top1]
    margin = max(0.1 * (max(ends) - min(ends)), 0.5)
    axes.set_ylim(max(min(ends) - margin, -1.0), min(max(ends) + margin, 101.0))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylabel("test accuracy (%)")


def _draw_point(axes: Axes, row: NetworkRow, index: int, cost: CostAxis, *, chosen: bool) -> None:
    x, score, tint = cost.value(row), row.test_top1, colour(index)
    axes.plot([x, x], [score.low, score.high], color=tint, linewidth=1.5, alpha=0.6)
    axes.plot([x, cost.reach(row)], [score.mean, score.mean], color=tint, linewidth=1.5, alpha=0.6)
    if chosen:
        axes.plot([x], [score.mean], "o", markersize=17, markerfacecolor="none", markeredgecolor=INK, zorder=3)
    axes.plot(
        [x], [score.mean], marker(index), color=tint, markersize=8, markeredgecolor=PAPER, markeredgewidth=0.8, zorder=4
    )


def _draw_bounds(axes: Axes, comparison: Comparison, cost: CostAxis) -> list[Text]:
    """Draw each bound as a dashed line with its words; return the words that stand inside the axes."""
    if cost.bound is not None:
        axes.axvline(cost.bound, color=BOUND, linewidth=1.0, linestyle=_DASHES)
        across = axes.get_xaxis_transform()  # x in data, y as a fraction of the height
        axes.text(
            cost.bound,
            1.01,
            cost.bound_words,
            transform=across,
            ha=_side(axes, cost.bound),
            va="bottom",
            color=BOUND,
            fontsize=9.5,
        )
    least = comparison.bounds.min_top1
    if least is None:
        return []
    axes.axhline(least, color=BOUND, linewidth=1.0, linestyle=_DASHES)
    below = axes.get_yaxis_transform() + ScaledTranslation(0, -3 / 72, axes.figure.dpi_scale_trans)
    # The bound was held against the validation images; where its line lies among test accuracies is for the eye only.
    words = f"at least {least:g} %" + (" in validation" if deciding_split(comparison) == "validation" else "")
    return [axes.text(0.995, least, words, transform=below, ha="right", va="top", color=BOUND, fontsize=9.5)]


def _side(axes: Axes, x: float) -> Literal["left", "center", "right"]:
    """Return how to align words above `x` so that they stay within the picture."""
    frame = _box(axes)
    along = (_display(axes, x, axes.get_ylim()[0])[0] - frame.left) / (frame.right - frame.left)
    return "left" if along < 0.1 else "right" if along > 0.9 else "center"


def _name_points(axes: Axes, comparison: Comparison, cost: CostAxis, others: Sequence[Text]) -> None:
    """Write each network's name near its point and in its colour."""
    rows = comparison.rows
    names = [
        axes.text(0, 0, name, color=colour(index), ha="center", va="center", zorder=5)
        for index, name in enumerate(short_labels([row.label for row in rows]))
    ]
    for name, row in zip(names, rows, strict=True):
        name.set_fontweight("bold" if row.label == comparison.choice.label else "normal")
    gap = _GAP * axes.figure.dpi / 72
    points = [_display(axes, cost.value(row), row.test_top1.mean) for row in rows]
    boxes = place_labels(
        points,
        [(extent.width + 4, extent.height + 2) for extent in (name.get_window_extent() for name in names)],
        _box(axes),
        texts=[_box(text) for text in others],
        bars=_bars(axes, comparison, cost),
        gap=gap,
    )
    for name, box, point in zip(names, boxes, points, strict=True):
        name.set_position(_data(axes, (box.left + box.right) / 2, (box.bottom + box.top) / 2))
        if box.distance(point) > 1.8 * gap:
            _lead(axes, box, point, str(name.get_color()))


def _lead(axes: Axes, box: Box, point: Point, tint: str) -> None:
    """Draw a thin line from a point to a name that found no space beside it."""
    near = (min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top))
    (x0, y0), (x1, y1) = _data(axes, *near), _data(axes, *point)
    axes.plot([x0, x1], [y0, y1], color=tint, linewidth=0.7, zorder=2.5)


def _bars(axes: Axes, comparison: Comparison, cost: CostAxis) -> list[Box]:
    """Return the intervals' bars in display units, as boxes a few points wide."""
    bars = []
    for row in comparison.rows:
        x, low = _display(axes, cost.value(row), row.test_top1.low)
        reach, high = _display(axes, cost.reach(row), row.test_top1.high)
        _, middle = _display(axes, cost.value(row), row.test_top1.mean)
        bars += [Box(x - 1.5, low, x + 1.5, high), Box(x, middle - 1.5, reach, middle + 1.5)]
    return bars


def _display(axes: Axes, x: float, y: float) -> Point:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _data(axes: Axes, x: float, y: float) -> Point:
    across, up = axes.transData.inverted().transform((x, y))
    return float(across), float(up)


def _box(artist: Axes | Text) -> Box:
    extent = artist.get_window_extent()
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
