"""Turns as the process takes them, and the process itself."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from described import colour_logits, describe, write_onnx

from mobilenets.artifact.golden import GoldenPairs
from mobilenets.benchmarking.candidates import BenchmarkCandidate
from mobilenets.benchmarking.process import Worker
from mobilenets.benchmarking.worker import open_candidate, serve, spread, take_turn, wait_until_idle
from mobilenets.errors import BackendError


def candidate(path, **changes):
    values = {"source": "artifact", "backend": "onnxruntime", "precision": "fp32", "threads": 1, **changes}
    return BenchmarkCandidate(label="x", path=str(path), **values)


def test_a_turn_lasts_its_time_and_leads_in_unmeasured():
    calls = []
    times = take_turn(lambda: calls.append(time.sleep(0.004)), 0.02, lead_in=True)
    assert len(calls) == len(times) + 1
    assert 1 <= len(times) <= 6  # a busy machine may sleep longer than it was told to
    assert all(one >= 3.9e6 for one in times)
    assert len(take_turn(lambda: calls.append(None), 0.0, lead_in=False)) == 1


def test_waiting_for_the_threads_to_sleep_ends(onnx_file):
    """Two threads of ONNX Runtime spin on after a call; `benchmarks/time_limits.py` measures that they stop."""
    call = open_candidate(candidate(onnx_file, threads=2)).prepare(1)
    call()
    assert wait_until_idle() > 0


@pytest.mark.slow
def test_answers_are_lines_of_json(onnx_file):
    requests = io.StringIO('{"batch": 1, "seconds": 0.01}\n{"batch": 3, "seconds": 0.0}\n')
    answers = io.StringIO()
    serve(candidate(onnx_file), requests, answers)
    ready, checked, first, second = map(json.loads, answers.getvalue().splitlines())
    assert ready["precision"] == "fp32"
    assert checked == {"checked": True}
    assert ready["peak_bytes"] > 20 * 2**20
    assert len(first["nanoseconds"]) > 1
    assert len(second["nanoseconds"]) == 1


@pytest.mark.slow
def test_a_process_is_asked_in_turns_and_noticed_when_it_hangs(onnx_file):
    with Worker(candidate(onnx_file)) as worker:
        assert 20 < worker.peak_memory_mb < 300
        assert 50 < worker.cold_start_ms < 60_000
        small, large = worker.turn(1, 0.05), worker.turn(2048, 0.05)
        assert np.median(large) > 2 * np.median(small)
        worker._timeout = 0.2
        with pytest.raises(BackendError, match=r"no answer within 0.2 s"):
            worker.turn(1, 5.0)


def test_a_process_that_cannot_start_says_why_in_one_line(tmp_path, onnx_file):
    with pytest.raises(BackendError, match=r"no such file") as caught:
        Worker(candidate(tmp_path / "missing.onnx"))
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="litert"):
        Worker(candidate(onnx_file, backend="litert"))


def test_a_file_that_answers_incorrectly_is_not_timed(tmp_path):
    images = describe().golden.images
    wrong = write_onnx(tmp_path / "wrong.onnx", golden=GoldenPairs(images, colour_logits(images) + 1, 1e-3))
    with pytest.raises(
        BackendError, match=r"wrong.onnx in onnxruntime fp32: its golden pairs no longer hold"
    ) as caught:
        Worker(candidate(wrong.path))
    assert "\n" not in str(caught.value)


def test_a_module_where_the_user_stands_is_not_taken_for_pythons_own(tmp_path, onnx_file, monkeypatch):
    (tmp_path / "queue.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    with Worker(candidate(onnx_file)) as worker:
        assert worker.turn(1, 0.0)


def test_a_process_that_dies_is_noticed(onnx_file):
    with Worker(candidate(onnx_file)) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(BackendError, match="ended with"):
            worker.turn(1, 0.01)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no processes")
def test_a_process_of_one_thread_is_pinned_to_one_core():
    program = "import os; from mobilenets.benchmarking.worker import pin; pin(1); print(len(os.sched_getaffinity(0)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert sorted(spread([3, 1, 2])) == [1, 2, 3]


def test_openvino_compiles_for_every_batch_size_measured(onnx_file):
    """Its backend does so for two sizes, and answers later ones from a slower form for any."""
    pytest.importorskip("openvino")
    opened = open_candidate(candidate(onnx_file, backend="openvino"))
    calls = {batch: opened.prepare(batch) for batch in (1, 2, 3, 4)}
    for batch, call in calls.items():
        assert len(call()) == batch
        assert list(call.func.__self__.pools) == [batch]
