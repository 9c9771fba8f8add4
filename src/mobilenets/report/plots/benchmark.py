"""A benchmark's picture: how long each candidate takes, and what its file weighs or how often it is right."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow
from mobilenets.files import write_bytes_atomically
from mobilenets.formatting import shortened, three_digits
from mobilenets.report.plots.canvas import INK, MUTED, PAPER, Box, Point, colour, drawing, marker, place_labels

_ROW_INCHES = 0.27
_FRAME_INCHES = 1.0  # axis labels and margins
_TIMES_INCHES, _SIZES_INCHES, _ACCURACY_INCHES = 4.2, 2.4, 5.4
_FIGURES_INCHES = 0.65  # the column of written figures right of a panel
_CHARACTER_INCHES = 0.082
_NAME_LENGTH = 60
_DECADES = 200.0  # from this factor on only powers of ten have space
_LOG_FROM = 4.0  # times that span this factor are drawn on a logarithmic axis
_GAP = 9.0


def benchmark_png(report: BenchmarkReport, path: Path, *, batch_size: int | None = None) -> None:
    """Write the picture.

    On the left a dot a candidate at its median time, a line to the 95th percentile, peers in grey. On the right
    accuracy against time where any accuracy is known, each point with its row's number, else the files' sizes.

    Args:
        report: at least one row.
        path: a `.png` file.
        batch_size: which times; None takes the smallest measured.

    Raises:
        ValueError: nothing was measured at this batch size.
        RunError: the file can't be written.
    """
    with drawing("benchmark"):
        figure = benchmark_figure(report, batch_size=batch_size)
        image = io.BytesIO()
        figure.savefig(image, format="png", facecolor=PAPER, metadata={"Software": None})
    write_bytes_atomically(path, image.getvalue())


def benchmark_figure(report: BenchmarkReport, *, batch_size: int | None = None) -> Figure:
    """Draw the picture; call inside `canvas.drawing`. Arguments and errors as of `benchmark_png`."""
    batch = min(report.batch_sizes, default=1) if batch_size is None else batch_size
    rows = sorted((row for row in report.rows if row.at(batch) is not None), key=lambda row: _median(row, batch))
    if not rows:
        raise ValueError(f"nothing was measured at batch {batch}")
    scored = fastest_of_each([row for row in rows if row.top1 is not None], batch)
    names = [shortened(row.label, _NAME_LENGTH) for row in rows]
    if scored:
        names = [f"{name}   {number}" for number, name in enumerate(names, start=1)]
    left = 0.35 + _CHARACTER_INCHES * max(map(len, names))
    second = left + _TIMES_INCHES + (0.8 if scored else 0.1)
    width = second + (_ACCURACY_INCHES if scored else _SIZES_INCHES)
    height = max(_FRAME_INCHES + _ROW_INCHES * len(rows), 4.0 if scored else 1.6)
    figure = Figure(figsize=(width, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)

    def panel(start: float, end: float) -> Axes:
        return figure.add_axes((start / width, 0.62 / height, (end - start) / width, 1 - 0.8 / height))

    _draw_times(panel(left, left + _TIMES_INCHES - _FIGURES_INCHES), rows, names, batch, report)
    if scored:
        _draw_accuracy(panel(second, width - 0.2), scored, [rows.index(row) + 1 for row in scored], batch)
    else:
        _draw_sizes(panel(second, width - _FIGURES_INCHES), rows)
    return figure


def fastest_of_each(rows: Sequence[BenchmarkRow], batch_size: int) -> list[BenchmarkRow]:
    """Of each file in each runtime and precision the fastest number of threads: the others only repeat its accuracy."""
    best: dict[tuple[str, str, str], BenchmarkRow] = {}
    for row in rows:
        key = (row.path, row.backend, row.precision)
        if key not in best or _median(row, batch_size) < _median(best[key], batch_size):
            best[key] = row
    return list(best.values())


def _median(row: BenchmarkRow, batch_size: int) -> float:
    measured = row.at(batch_size)
    if measured is None:
        raise ValueError(f"{row.label} was not measured at batch {batch_size}")
    return measured.latency.median_ms


def _p95(row: BenchmarkRow, batch_size: int) -> float:
    measured = row.at(batch_size)
    return 0.0 if measured is None else max(measured.latency.median_ms, measured.latency.p95_ms)


def _draw_times(
    axes: Axes, rows: Sequence[BenchmarkRow], names: Sequence[str], batch: int, report: BenchmarkReport
) -> None:
    """Draw a dot a row at its median, a line to its 95th percentile, and the figure in a column of its own."""
    fastest = report.fastest(batch)
    medians = [_median(row, batch) for row in rows]
    label = _scale_times(axes, medians, batch)
    for place, (row, median) in enumerate(zip(rows, medians, strict=True)):
        tint = MUTED if row.peer else colour(0)
        axes.plot([median, _p95(row, batch)], [place, place], color=tint, linewidth=1.5, alpha=0.6)
        size = 10 if row is fastest else 7
        axes.plot([median], [place], "s" if row.peer else "o", color=tint, markersize=size, markeredgecolor=PAPER)
        _beside(axes, place, three_digits(median), bold=row is fastest)
    axes.set_yticks(range(len(rows)), names, fontsize=9.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    _rows_down(axes, len(rows))
    axes.set_xlabel(f"{label}: median, line to p95")


def _draw_sizes(axes: Axes, rows: Sequence[BenchmarkRow]) -> None:
    sizes = [(row.file_bytes or 0) / 1e6 for row in rows]
    for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if size:
            axes.barh(place, size, height=0.55, color=MUTED if row.peer else colour(2), alpha=0.6)
            _beside(axes, place, three_digits(size))
    axes.set_xlim(0, 1.05 * max(*sizes, 1e-6))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_yticks([])
    _rows_down(axes, len(rows))
    axes.set_xlabel("file (MB)")


def _rows_down(axes: Axes, count: int) -> None:
    axes.set_ylim(count - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _beside(axes: Axes, place: int, figure: str, *, bold: bool = False) -> None:
    """Write a figure right of the axes, where nothing is drawn."""
    across = axes.get_yaxis_transform()  # x as a fraction of the width, y in data
    axes.text(1.02, place, figure, transform=across, va="center", fontsize=9.5, fontweight="bold" if bold else "normal")


def _draw_accuracy(axes: Axes, rows: Sequence[BenchmarkRow], numbers: Sequence[int], batch: int) -> None:
    points = [(_median(row, batch), row.top1 or 0.0) for row in rows]
    label = _scale_times(axes, [time for time, _ in points], batch)
    _scale_accuracy(axes, [top1 for _, top1 in points])
    for index, (time, top1) in enumerate(points):
        axes.plot(
            [time], [top1], marker(index), color=colour(index), markersize=8, markeredgecolor=PAPER, markeredgewidth=0.8
        )
    axes.set_xlabel(label)
    axes.set_ylabel(f"top-1 (%), {rows[0].top1_basis}" if rows[0].top1_basis else "top-1 (%)")
    _name(axes, [str(number) for number in numbers], points)


def _scale_times(axes: Axes, times: Sequence[float], batch: int) -> str:
    """Fit the x axis to the medians and say what it shows. A 95th percentile may leave the picture: one interruption
    must not squeeze all others into a corner.
    """
    low, high = min(times), max(times)
    if high / low >= _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _DECADES else (1.0,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
        return f"latency, batch {batch} (ms, logarithmic)"
    margin = max(0.15 * (high - low), 0.1 * high)
    axes.set_xlim(max(low - margin, 0.0), high + 2 * margin)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return f"latency, batch {batch} (ms)"


def _scale_accuracy(axes: Axes, scores: Sequence[float]) -> None:
    margin = max(0.15 * (max(scores) - min(scores)), 0.5)
    axes.set_ylim(min(scores) - margin, max(scores) + margin)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def _name(axes: Axes, names: Sequence[str], points: Sequence[Point]) -> None:
    """Write each name near its point and in its colour, none on another."""
    texts = [
        axes.text(0, 0, name, color=colour(index), ha="center", va="center", fontsize=10.0)
        for index, name in enumerate(names)
    ]
    gap = _GAP * axes.figure.dpi / 72
    marks: list[Point] = [(float(x), float(y)) for x, y in (axes.transData.transform(point) for point in points)]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 4, extent.height + 2) for extent in extents]
    for text, box, mark in zip(texts, place_labels(marks, sizes, _box(axes), gap=gap), marks, strict=True):
        _move(axes, text, box)
        if box.distance(mark) > 1.8 * gap:
            near = (min(max(mark[0], box.left), box.right), min(max(mark[1], box.bottom), box.top))
            ends = axes.transData.inverted().transform([near, mark])
            axes.plot(ends[:, 0], ends[:, 1], color=str(text.get_color()), linewidth=0.7, zorder=1.5)


def _move(axes: Axes, text: Text, box: Box) -> None:
    x, y = axes.transData.inverted().transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    text.set_position((float(x), float(y)))


def _box(axes: Axes) -> Box:
    extent = axes.get_window_extent()
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
