"""The whole measurement, on a small network."""

import json

import pytest

from mobilenets.benchmarking import process
from mobilenets.benchmarking.benchmark import benchmark
from mobilenets.benchmarking.process import REPEAT
from mobilenets.errors import ArtifactError, BackendError, MobilenetsError

QUICK = {"backends": ("onnxruntime",), "threads": (1,), "seconds": 0.0, "starts": 1}


@pytest.fixture(scope="module")
def report(onnx_file):
    return benchmark([onnx_file], against=["onnxruntime"], batch_sizes=(1, 8), **QUICK)


@pytest.mark.slow
def test_every_candidate_has_every_figure(report, onnx_file):
    own, peer = report.rows
    assert (own.label, own.precision, own.peer) == ("model.onnx, ONNX Runtime fp32, 1 thread", "fp32", False)
    assert (peer.label, peer.peer) == ("model.onnx, ONNX Runtime with its defaults, 1 thread", True)
    for row in report.rows:
        assert row.file_bytes == onnx_file.stat().st_size
        assert 20 < row.peak_memory_mb < 300
        assert row.cold_start_ms > 50
        assert [one.batch_size for one in row.measurements] == [1, 8]
        assert all(one.latency.median_ms <= one.latency.p95_ms for one in row.measurements)
        assert all(one.latency.calls >= 10 for one in row.measurements)
    assert report.failures == ()


def test_the_repeat_measures_the_noise_and_is_no_row(report):
    assert [one.batch_size for one in report.noise] == [1, 8]
    assert all(one.first == one.second + REPEAT for one in report.noise)
    assert not any(REPEAT in row.label for row in report.rows)
    # The same file in two processes: the machine may be busy, but not to a factor of 4.
    assert all(0.25 < one.ratio < 4 for one in report.noise)


def test_defaults_and_ours_are_compared(report):
    ratio = report.ratio(report.rows[1].label, report.rows[0].label, 1)
    assert ratio.low <= ratio.ratio <= ratio.high
    assert report.fastest(1) is report.rows[0]
    assert json.loads(json.dumps(report.to_dict()))["settings"]["batch sizes"] == "1, 8"


@pytest.mark.slow
def test_a_candidate_that_fails_does_not_lose_the_others(onnx_file, tmp_path):
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(b"no model")
    seen = []
    report = benchmark(
        [onnx_file], against=[str(theirs)], batch_sizes=(1,), progress=lambda *call: seen.append(call), **QUICK
    )
    assert [row.label for row in report.rows] == ["model.onnx, ONNX Runtime fp32, 1 thread"]
    (failure,) = report.failures
    assert failure.label.startswith("theirs.onnx")
    assert "\n" not in failure.reason
    assert ("starting processes", 2, 2) in seen
    assert seen[-1] == ("timing, percent", 100, 100)


@pytest.mark.slow
def test_pytorch_is_a_peer_of_the_same_network(onnx_file):
    report = benchmark([onnx_file], against=["pytorch"], batch_sizes=(1,), **QUICK)
    peer = report.rows[-1]
    assert (peer.backend, peer.network, peer.file_bytes) == ("pytorch", report.rows[0].network, None)
    assert peer.peak_memory_mb > report.rows[0].peak_memory_mb


@pytest.mark.slow
def test_candidates_that_do_not_fit_into_memory_are_refused(onnx_file, monkeypatch):
    monkeypatch.setattr(process, "usable_memory", lambda: 50 * 2**20)
    with pytest.raises(MobilenetsError, match="measure fewer at once"):
        benchmark([onnx_file], **QUICK)


def test_accuracy_a_file_knows_goes_into_rows_that_compute_as_it_was_exported(report):
    assert [(row.top1, row.top1_basis) for row in report.rows] == [(71.9, "50 images"), (None, "")]


@pytest.mark.parametrize(
    "changes",
    [{"batch_sizes": (0,)}, {"batch_sizes": ()}, {"seconds": float("inf")}, {"seconds": -1.0}, {"starts": 0}],
)
def test_settings_that_cannot_be_are_refused_at_once(onnx_file, changes):
    with pytest.raises(MobilenetsError, match=r"batch sizes are|a benchmark needs|of a benchmark are"):
        benchmark([onnx_file], **{**QUICK, **changes})


def test_bad_artifacts(tmp_path, onnx_file):
    with pytest.raises(MobilenetsError, match="nothing to measure"):
        benchmark([])
    with pytest.raises(ArtifactError, match="no such file"):
        benchmark([tmp_path / "missing.onnx"])
    with pytest.raises(BackendError, match="no backend tensorrt"):
        benchmark([onnx_file], backends=["tensorrt"])
