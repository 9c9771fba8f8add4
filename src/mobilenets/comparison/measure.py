"""What each network costs to run: the exported file, its size and memory, and latency side by side.

Regime: batch 1, one thread, a real image (for validation), all networks and both runtimes in turn within one session.
One thread because it is what small devices give a classifier, and because two runtimes' idle thread pools, which spin
while they wait, would disturb each other's turns.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from mobilenets.auditing.count import count
from mobilenets.benchmarking.latency import round_ratios, summarize, time_rounds
from mobilenets.benchmarking.process import peak_memory_mb
from mobilenets.benchmarking.results import Ratio
from mobilenets.comparison.networks import ComparedNetwork
from mobilenets.errors import ExportError
from mobilenets.evaluation.results import Latency
from mobilenets.exporters.export import export_onnx
from mobilenets.exporters.verify import check_parity
from mobilenets.machine import usable_cores
from mobilenets.models.saved import load_network
from mobilenets.progress import Progress
from mobilenets.run_folder import ONNX_FILE
from mobilenets.runtime.backend import open_backend
from mobilenets.training.plan import keep_freed_memory, processor_name
from mobilenets.training.scoring import Splits, torch_predict

RUNTIMES = ("pytorch", "onnxruntime")
PARITY_IMAGES = 32
TIMING_SECONDS = 1.0  # for each network in each runtime


@dataclass(frozen=True)
class NetworkCost:
    """What one network costs; latency is keyed by runtime, memory in MiB, `macs` for one image."""

    parameters: int
    macs: int
    file_bytes: int
    peak_memory_mb: float
    latency: dict[str, Latency]


@dataclass(frozen=True)
class TimedFile:
    """A network and its file, ready to be timed: how each runtime answers, and what the file costs at rest."""

    calls: dict[str, Callable[[], object]]
    parameters: int
    macs: int
    file_bytes: int
    peak_memory_mb: float


def measure(
    trained: dict[ComparedNetwork, Path], splits: dict[int, Splits], progress: Progress
) -> tuple[dict[ComparedNetwork, NetworkCost], tuple[str, ...], tuple[Ratio, ...]]:
    """Export each candidate's trained run, check the file's answers, and time all of them in turn.

    Args:
        trained: the run folder of each candidate; the exported file is written beside it.
        splits: the images for each input size.
        progress: told what is going on.

    Returns:
        What each costs; a sentence on every network whose file does not answer as it does: those are not timed; and of
        every two labels whether their latencies in ONNX Runtime differ measurably.
    """
    keep_freed_memory()  # training sets it for the whole process: timing must not depend on whether any was needed
    exported, failures = {}, []
    for candidate, run in trained.items():
        progress.message(f"exporting {candidate.label}")
        try:
            exported[candidate] = _export(run, splits[candidate.image_size])
        except ExportError as error:
            failures.append(f"{candidate.label} is left out: {error}")
            progress.message(failures[-1])
    if not exported:
        return {}, tuple(failures), ()
    calls = {_key(one, runtime): call for one, file in exported.items() for runtime, call in file.calls.items()}
    progress.message(f"timing {len(exported)} networks, {' and '.join(RUNTIMES)}, batch 1, one thread")
    seconds = TIMING_SECONDS * len(calls)
    with _one_thread():
        times = time_rounds(calls, seconds=seconds, progress=_countdown(seconds, progress))
    costs = {
        one: NetworkCost(
            file.parameters,
            file.macs,
            file.file_bytes,
            file.peak_memory_mb,
            {runtime: summarize(times[_key(one, runtime)]) for runtime in RUNTIMES},
        )
        for one, file in exported.items()
    }
    onnx = {one.label: times[_key(one, "onnxruntime")] for one in exported}
    return costs, tuple(failures), round_ratios(onnx)


def _export(run: Path, splits: Splits) -> TimedFile:
    saved = load_network(run)
    file = run.parent / ONNX_FILE
    artifact = export_onnx(
        saved.model, file, preprocessing=saved.preprocessing, classes=saved.classes, trained_on=saved.images
    )
    torch_answers = torch_predict(saved.model, saved.preprocessing, torch.device("cpu"))
    onnx_answers = open_backend(artifact, backend="onnxruntime", threads=1).predict
    images = splits.train if splits.validation is None else splits.validation
    check_parity(torch_answers, onnx_answers, images.batch(range(min(PARITY_IMAGES, len(images)))))
    image = images.batch([0])
    answers = zip(RUNTIMES, (torch_answers, onnx_answers), strict=True)
    counted = count(saved.model)
    return TimedFile(
        calls={runtime: partial(answer, image) for runtime, answer in answers},
        parameters=counted.parameters,
        macs=counted.macs,
        file_bytes=file.stat().st_size,
        peak_memory_mb=peak_memory_mb(file),
    )


def _countdown(seconds: float, progress: Progress) -> Callable[[int], None]:
    """Tell the progress about once a second how much of the time budget is spent."""
    start = told = time.monotonic()

    def tell(rounds: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            progress.update("timing, seconds", min(round(told - start), round(seconds)), round(seconds))

    return tell


def _key(candidate: ComparedNetwork, runtime: str) -> str:
    return f"{candidate.label} {runtime}"


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


PACKAGES = ("mobilenets", "torch", "torchvision", "onnxruntime", "numpy", "pillow")


def environment(device: torch.device) -> dict[str, str]:
    """Versions of what computes, and the machine: enough to know whether two results may be compared."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": str(usable_cores()),
        "trained on": device.type,
    }
