"""The benchmark's side of worker processes: start them, several times over, ask for turns, notice a crash.

Cold start and peak memory are read from fresh processes. Memory needs one of its own in any case, because memory once
used is rarely given back: whatever ran before (training, another network) would be counted too. No PyTorch here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking.candidates import BenchmarkCandidate
from mobilenets.benchmarking.results import Failure
from mobilenets.errors import ArtifactError, BackendError, ExportError, MobilenetsError
from mobilenets.limits import parse_json
from mobilenets.machine import usable_memory
from mobilenets.progress import Update
from mobilenets.runtime.backend import choices

WORKER = "mobilenets.benchmarking.worker"
TIMEOUT_SECONDS = 300.0
_MIB = 1024**2


class Worker:
    """A fresh process that runs one candidate. A context manager; otherwise `close` must be called.

    Attributes:
        candidate: what it runs.
        cold_start_ms: from starting the process until its first answer was there.
        peak_memory_mb: its peak resident memory (MiB) then.
        precision: the arithmetic it computes in.

    Raises:
        BackendError: it did not start or answers incorrectly, with its own last line; the label of the candidate is not
            repeated in it.
    """

    def __init__(self, candidate: BenchmarkCandidate, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self.candidate = candidate
        self._timeout = timeout
        self._resources = ExitStack()
        self._complaints = self._resources.enter_context(
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - `close` closes it
        )
        start = time.perf_counter()
        self._process = subprocess.Popen(
            # -P: a queue.py where the user happens to be must not stand in for Python's own.
            [sys.executable, "-P", "-m", WORKER, candidate.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            encoding="utf-8",
        )
        try:
            ready = self._answer()
            self.cold_start_ms = (time.perf_counter() - start) * 1e3
            self._answer()  # that its golden pairs hold
        except BaseException:  # Ctrl-C too: no process may be left behind
            self.close()
            raise
        self.peak_memory_mb = float(ready["peak_bytes"]) / _MIB
        self.precision = str(ready["precision"])

    def turn(self, batch_size: int, seconds: float) -> list[int]:
        """Let it answer batches for `seconds`; nanoseconds of each call.

        Raises:
            BackendError: it crashed or did not answer in time, with its own last line.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"batch": batch_size, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        except OSError as error:  # it is gone: a broken pipe, on Windows an invalid argument
            raise self._crash() from error
        times: list[int] = self._answer()["nanoseconds"]
        return times

    def close(self) -> None:
        """End the process, at once if it does not end by itself."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # a request it never read
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        hung = threading.Event()

        def give_up() -> None:
            hung.set()
            self._process.kill()

        # Pipes can't be read with a time limit on every system; a killed process ends them everywhere.
        watch = threading.Timer(self._timeout, give_up)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise BackendError(f"no answer within {self._timeout:g} s") if hung.is_set() else self._crash()
        answer: dict[str, Any] = parse_json(line)
        return answer

    def _crash(self) -> BackendError:
        code = self._process.wait()
        self._complaints.seek(0)
        said = [line.strip() for line in self._complaints if line.strip()]
        if said and code >= 0:
            return BackendError(said[-1])
        signal = f"signal {-code}: out of memory?" if code == -9 else f"signal {-code}" if code < 0 else f"code {code}"
        return BackendError(f"its process ended with {signal}{f' after saying: {said[-1]}' if said else ''}")


REPEAT = " (repeat)"
"""Added to the label of the first candidate's second process, whose times show what noise alone makes of a ratio."""
_MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Started:
    """What the fresh processes of a candidate showed."""

    cold_start_ms: float
    peak_memory_mb: float
    precision: str


def start_all(
    candidates: Sequence[BenchmarkCandidate], starts: int, stack: ExitStack, tell: Update
) -> tuple[dict[str, Worker], dict[str, Started], list[Failure]]:
    """Start every candidate several times in turn; the last process of each stays, and a repeat of the first candidate.

    Args:
        candidates: what to start.
        starts: processes of each.
        stack: closes those that stay.
        tell: told how many were started.

    Returns:
        The processes that stay by label, what all showed by label, and the candidates that did not start.

    Raises:
        BackendError: none started.
        MobilenetsError: they don't fit into memory together.
    """
    begun: dict[str, list[Worker]] = {}
    failures: dict[str, Failure] = {}
    total = starts * len(candidates)
    for number in range(starts):
        for position, candidate in enumerate(candidates):
            tell("starting processes", number * len(candidates) + position, total)
            if candidate.label in failures:
                continue
            try:
                worker = Worker(candidate)
            except BackendError as error:
                failures[candidate.label] = Failure(candidate.label, str(error))
                begun.pop(candidate.label, None)
                continue
            begun.setdefault(candidate.label, []).append(worker)
            if number + 1 == starts:
                stack.callback(worker.close)
            else:
                worker.close()
    tell("starting processes", total, total)
    if not begun:
        lost = next(iter(failures.values()))
        raise BackendError(f"nothing could be measured; {lost.label}: {lost.reason}")
    _require_memory({label: started[-1].peak_memory_mb for label, started in begun.items()})
    workers = {label: started[-1] for label, started in begun.items()}
    first = next(iter(workers.values()))
    workers[first.candidate.label + REPEAT] = stack.enter_context(Worker(first.candidate))
    return workers, {label: _summed(started) for label, started in begun.items()}, list(failures.values())


def _summed(started: Sequence[Worker]) -> Started:
    return Started(
        median(worker.cold_start_ms for worker in started),
        median(worker.peak_memory_mb for worker in started),
        started[-1].precision,
    )


def _require_memory(peaks_mb: Mapping[str, float]) -> None:
    memory, needed = usable_memory(), sum(peaks_mb.values()) * 1024**2
    if memory is not None and needed > _MEMORY_SHARE * memory:
        raise MobilenetsError(
            f"{len(peaks_mb)} candidates need {needed / 1e9:.1f} GB together, of {memory / 1e9:.1f} GB here: measure "
            "fewer at once with `backends`, `precisions` or `threads`"
        )


def peak_memory_mb(
    path: str | Path, threads: int = 1, *, backend: str | None = None, precision: str | None = None
) -> float:
    """Peak resident memory (MiB) of a fresh Python process that answers one image from an exported file.

    Python, NumPy and the runtime are in it (their part is the same for every network): it is what a device needs.

    Args:
        path: an artifact.
        threads: threads one answer may use.
        backend: the runtime; None takes the file's first choice here.
        precision: arithmetic; None takes that choice's.

    Raises:
        BackendError: an impossible number of threads.
        ExportError: the file is missing, damaged or no artifact, or the process failed, with its last line.
    """
    check_threads(threads)
    path = Path(path)
    try:
        able = choices(read_artifact(path))
        chosen = next((one for one in able if backend in (None, one.backend)), None)
        runtime = backend or (chosen.backend if chosen else "onnxruntime")
        arithmetic = precision or (chosen.precision if chosen else "")
        with Worker(BenchmarkCandidate(str(path), "artifact", str(path), runtime, arithmetic, threads)) as worker:
            return worker.peak_memory_mb
    except (ArtifactError, BackendError) as error:
        raise ExportError(f"the memory {path} needs can't be measured: {error}") from error
