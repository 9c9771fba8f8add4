"""The report, its warnings and its words."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mobilenets.benchmarking.benchmark import find_warnings
from mobilenets.benchmarking.results import Accuracy, Failure, Ratio
from mobilenets.report.benchmark import benchmark_text, peers_of, times_as_fast, verdicts


def text(report, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(benchmark_text(report))
    return console.file.getvalue()


def around(median, seed=0, spread=0.2):
    return list(median * np.exp(np.random.default_rng(seed).normal(0, spread, 20)))


def test_the_fastest_comes_first_and_peers_are_compared_with(make_report):
    eager = "PyTorch eager, 1 thread"
    report = make_report({"slow": [4.0] * 10, "quick": [2.0] * 10, eager: [12.0] * 10}, (eager,))
    shown = text(report)
    assert shown.index("★  quick") < shown.index("slow")
    assert "6.0×" in shown
    assert "3.0×" in shown
    assert verdicts(report) == (f"batch 1: fastest is quick with 2.00 ms; 6.0× (6.0–6.0) as fast as {eager}",)


def test_everything_measured_is_in_the_table_at_80_columns(make_report):
    report = make_report({"model.onnx, OpenVINO bf16, 2 threads": [2.0] * 10, "peer": [12.0] * 10}, ("peer",))
    shown = text(report.with_accuracies({report.rows[0].label: Accuracy(71.9, "50 images")}), 80)
    for figure in ("2.00", "500", "3.50", "80.0", "250", "71.9", "6.0×"):
        assert figure in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_every_kind_of_peer_has_a_column_at_80_columns(make_report):
    """Three kinds, one of them twice: the candidate is compared with the faster of those."""
    peers = {"eager": "pytorch", "ort": "onnxruntime", "slow ov": "openvino", "quick ov": "openvino"}
    times = {"model.onnx, OpenVINO bf16, 2 threads": 2.0, "eager": 24.0, "ort": 5.0, "slow ov": 16.0, "quick ov": 8.0}
    report = make_report({label: [time] * 10 for label, time in times.items()}, tuple(peers))
    rows = [
        replace(row, backend=peers[row.label], source="pytorch" if row.label == "eager" else "file")
        if row.peer
        else row
        for row in report.rows
    ]
    shown = text(replace(report, rows=tuple(rows)), 80)
    for figure in ("12.0×", "2.50×", "4.0×"):
        assert figure in shown
    assert "8.0×" not in shown[: shown.index("size, memory, start")]
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_labels_are_no_markup(make_report):
    assert "m[red].onnx" in text(make_report({"m[red].onnx": [1.0] * 10}))


def test_only_fair_peers_are_compared_with(make_report):
    report = make_report({"a": [1.0] * 10, "p": [2.0] * 10, "q": [3.0] * 10}, ("p", "q"))
    own, p, q = report.rows
    assert peers_of(report, own) == (p, q)
    report = replace(report, rows=(own, replace(p, threads=2), replace(q, network="other")))
    assert peers_of(report, own) == ()


def test_two_that_cannot_be_told_apart_are_named_with_their_figures(make_report):
    report = make_report({"a": around(3.1, 0), "b": around(3.2, 1), "far": around(30, 2)})
    ratio = report.ratio("b", "a", 1) if report.fastest(1).label == "a" else report.ratio("a", "b", 1)
    (warning,) = (one for one in find_warnings(report) if "measurably slower" in one)
    assert warning.startswith(f"batch 1: {ratio.first} is not measurably slower than {ratio.second}: ")
    assert warning.endswith(f"ratio {ratio.low:.2f} to {ratio.high:.2f}")
    assert "far" not in warning


def test_of_many_ties_only_the_nearest_are_told_in_full(make_report):
    warnings = find_warnings(make_report({name: around(3, seed) for seed, name in enumerate("abcdef")}))
    ties = [one for one in warnings if " is not measurably slower than " in one]
    assert len(ties) == 3
    assert any(one.startswith("batch 1: nor are ") for one in warnings)


def test_a_quiet_machine_gives_no_warning(make_report):
    assert find_warnings(make_report({"a": [1.0] * 10, "b": [2.0] * 10})) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": {"cores": "2", "load at start": "1.9"}}, "other programs kept 1.9 of 2 cores busy"),
        ({"environment": {"cores": "2", "governor": "powersave"}}, "governor powersave"),
        ({"noise": (Ratio("a (repeat)", "a", 1, 1.2, 1.1, 1.3, True),)}, "one and the same file differed by 20 %"),
    ],
)
def test_a_noisy_machine_is_named(make_report, changes, message):
    (warning,) = find_warnings(make_report({"a": [1.0] * 10, "b": [2.0] * 10}, **changes))
    assert message in warning


def test_a_machine_that_changed_pace_is_named(make_report):
    (warning,) = find_warnings(make_report({"a": [1.0] * 10 + [1.5] * 10}))
    assert "grew up to 50 % slower" in warning


def test_more_threads_than_cores_are_warned_of(make_report):
    report = make_report({"a": [1.0] * 10})
    (warning,) = find_warnings(replace(report, rows=(replace(report.rows[0], threads=8),)))
    assert "8 threads were asked for on 2 cores" in warning


def test_failures_are_told(make_report):
    report = make_report({"a": [1.0] * 10}, failures=(Failure("b", "its process ended with signal 9"),))
    assert "failed: b: its process ended with signal 9" in text(report)


def test_json_holds_every_figure(make_report):
    report = make_report({"a": [1.0] * 10, "b": [2.0] * 10}, failures=(Failure("c", "why"),))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["rows"][1]["measurements"][0]["latency"]["median_ms"] == 2.0
    assert data["ratios"][0]["ratio"] == 0.5
    assert data["failures"] == [{"label": "c", "reason": "why"}]


def test_a_ratio_is_found_from_either_side(make_report):
    report = make_report({"a": [1.0] * 10, "b": [2.0] * 10})
    assert report.ratio("a", "b", 1).ratio == 0.5
    assert report.ratio("b", "a", 1).ratio == 2.0
    assert report.ratio("a", "b", 32) is None
    assert times_as_fast(Ratio("p", "a", 1, 1.234, 1.1, 1.4, True)) == "1.23× (1.10–1.40)"
    with pytest.raises(KeyError):
        report.row("c")
