"""What each network costs to run: the exported file, its size and memory, and latency side by side.

Regime: batch 1, one thread, a real test image, all networks and both runtimes in turn within one session. One thread
because it is what small devices give a classifier, and because two runtimes' idle thread pools, which spin while they
wait, would disturb each other's turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from mobilenets.audit.count import count
from mobilenets.benchmark.footprint import peak_memory_mb
from mobilenets.benchmark.latency import measure_latency
from mobilenets.benchmark.session import open_session, predict_function
from mobilenets.comparison.candidates import Candidate
from mobilenets.evaluation.results import Latency
from mobilenets.export.onnx import check_parity, export_onnx
from mobilenets.models.saved import load_network
from mobilenets.training.observer import Observer
from mobilenets.training.run import Splits, torch_predict

RUNTIMES = ("pytorch", "onnxruntime")
PARITY_IMAGES = 32
ONNX_FILE = "model.onnx"
TIMING_SECONDS = 1.0  # for each network in each runtime


@dataclass(frozen=True)
class Cost:
    """What one network costs; latency is keyed by runtime, memory in MiB, `macs` for one image."""

    parameters: int
    macs: int
    file_bytes: int
    peak_memory_mb: float
    latency: dict[str, Latency]


def measure(trained: dict[Candidate, Path], splits: dict[int, Splits], observer: Observer) -> dict[Candidate, Cost]:
    """Export each candidate's trained run, check the file's answers, and time all of them in turn.

    Args:
        trained: the run folder of each candidate; the exported file is written beside it.
        splits: the images for each input size.
        observer: told what is going on.

    Raises:
        ExportError: an exported file does not answer as the network does.
    """
    cpu = torch.device("cpu")
    calls: dict[str, Callable[[], object]] = {}
    costs = {}
    for candidate, run in trained.items():
        observer.message(f"exporting {candidate.label}")
        saved = load_network(run)
        file = run.parent / ONNX_FILE
        export_onnx(saved.model, file, preprocessing=saved.preprocessing, classes=saved.classes)
        torch_answers = torch_predict(saved.model, saved.preprocessing, cpu)
        onnx_answers = predict_function(open_session(file, threads=1))
        test = splits[candidate.image_size].test
        check_parity(torch_answers, onnx_answers, test.batch(range(min(PARITY_IMAGES, len(test)))))
        image = test.batch([0])
        for runtime, answers in zip(RUNTIMES, (torch_answers, onnx_answers), strict=True):
            calls[_key(candidate, runtime)] = lambda answers=answers, image=image: answers(image)  # type: ignore[misc]
        counted = count(saved.model)
        costs[candidate] = (counted.parameters, counted.macs, file.stat().st_size, peak_memory_mb(file))
    observer.message(f"timing {len(trained)} networks, {' and '.join(RUNTIMES)}, batch 1, one thread")
    with _one_thread():
        latency = measure_latency(calls, seconds=TIMING_SECONDS * len(calls))
    return {
        candidate: Cost(*cost, {runtime: latency[_key(candidate, runtime)] for runtime in RUNTIMES})
        for candidate, cost in costs.items()
    }


def _key(candidate: Candidate, runtime: str) -> str:
    return f"{candidate.label} {runtime}"


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
