"""The benchmark's picture: readable, complete, and true to the report."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from mobilenets.benchmarking.latency import ratios
from mobilenets.benchmarking.results import Accuracy, BenchmarkReport, BenchmarkRow, Measurement
from mobilenets.evaluation.results import Latency
from mobilenets.report.plots.benchmark import benchmark_figure, benchmark_png, fastest_of_each
from mobilenets.report.plots.canvas import drawing

Make = Callable[..., BenchmarkReport]


def row(number: int, median: float, threads: int = 1, *, peer: bool = False) -> BenchmarkRow:
    latency = Latency(median_ms=median, p95_ms=1.3 * median, iqr_ms=0.1 * median, calls=100)
    return BenchmarkRow(
        label=f"model-{number}.onnx, OpenVINO bf16, {threads} threads",
        path="" if peer else f"model-{number}.onnx",
        source="pytorch" if peer else "artifact",
        backend="openvino",
        precision="bf16",
        threads=threads,
        peer=peer,
        network="mobilenet_v2",
        file_bytes=None if peer else 3_000_000 + number,
        peak_memory_mb=100.0,
        cold_start_ms=300.0,
        measurements=(Measurement(1, latency, 1000 / median, 1.0),),
    )


def report_of(rows: list[BenchmarkRow]) -> BenchmarkReport:
    turns = {one.label: [one.measurements[0].latency.median_ms] * 3 for one in rows}
    return BenchmarkReport("2026-01-01", {}, {}, tuple(rows), ratios(turns, 1), ())


def scored(report: BenchmarkReport) -> BenchmarkReport:
    own = [one for one in report.rows if not one.peer]
    return report.with_accuracies({one.label: Accuracy(70 + i / 10, "50 images") for i, one in enumerate(own)})


def words(axes: Axes) -> list[Text]:
    """The texts of a panel; of its ticks only names, since numeric ones reach beyond what is drawn."""
    low, high = sorted(axes.get_ylim())
    ticks = [one for one in axes.get_yticklabels() if low <= one.get_position()[1] <= high]
    return [one for one in (*axes.texts, *ticks) if one.get_text()]


@pytest.mark.parametrize("with_accuracy", [False, True])
def test_every_candidate_is_named_with_its_figure(with_accuracy: bool) -> None:
    report = report_of([row(1, 3.14), row(2, 1.23), row(3, 22.2, peer=True)])
    with drawing("t"):
        times, second = benchmark_figure(scored(report) if with_accuracy else report).axes
        shown = [one.get_text() for one in words(times)]
        assert [figure for figure in shown if figure[0].isdigit()] == ["1.23", "3.14", "22.2"]
        assert [name[:7] for name in shown if name.startswith("model")] == ["model-2", "model-1", "model-3"]
        numbers = [one.get_text() for one in second.texts]
        assert sorted(numbers) == (["1", "2"] if with_accuracy else ["3.00", "3.00"])


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0.1, 500.0), min_size=1, max_size=14), st.booleans())
def test_no_text_covers_another(medians: list[float], with_accuracy: bool) -> None:
    report = report_of([row(number, median) for number, median in enumerate(medians)])
    with drawing("t"):
        figure = benchmark_figure(scored(report) if with_accuracy else report)
        figure.canvas.draw()
        boxes = [one.get_window_extent() for axes in figure.axes for one in words(axes)]
        boxes += [label.get_window_extent() for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
        boxes = [one for one in boxes if one.width > 0]
        for first, second in combinations(boxes, 2):
            assert not first.overlaps(second)
        page = figure.bbox
        for one in boxes:
            assert page.x0 <= one.x0
            assert one.x1 <= page.x1
            assert page.y0 <= one.y0
            assert one.y1 <= page.y1


def test_a_point_for_the_fastest_number_of_threads_only() -> None:
    rows = [row(1, 3.0, 1), row(1, 2.0, 2), row(2, 5.0, 1)]
    assert [(one.path, one.threads) for one in fastest_of_each(rows, 1)] == [("model-1.onnx", 2), ("model-2.onnx", 1)]


def test_the_file_is_a_picture(tmp_path: Path) -> None:
    benchmark_png(report_of([row(1, 3.0), row(2, 4.0)]), tmp_path / "deep" / "b.png")
    with Image.open(tmp_path / "deep" / "b.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 600


def test_a_batch_nothing_was_measured_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was measured at batch 8"):
        benchmark_png(report_of([row(1, 3.0)]), tmp_path / "b.png", batch_size=8)
