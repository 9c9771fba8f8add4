"""The benchmark's side of a worker process: start it, ask for turns, notice when it dies."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from mobilenets.benchmarking.candidate import Candidate
from mobilenets.errors import BackendError
from mobilenets.limits import parse_json

WORKER = "mobilenets.benchmarking.worker"
TIMEOUT_SECONDS = 300.0
_MIB = 1024**2


class Worker:
    """A fresh process that runs one candidate. A context manager; without it, `close` must be called.

    Attributes:
        candidate: what it runs.
        cold_start_ms: from starting the process until its first answer was there.
        peak_memory_mb: its peak resident memory (MiB) then.
        precision: the arithmetic it computes in.

    Raises:
        BackendError: it did not start or answers wrongly, with its own last line; the label of the candidate is not
            repeated in it.
    """

    def __init__(self, candidate: Candidate, *, timeout: float = TIMEOUT_SECONDS) -> None:
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
            BackendError: it died or did not answer in time, with its own last line.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"batch": batch_size, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        except OSError as error:  # it is gone: a broken pipe, on Windows an invalid argument
            raise self._death() from error
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
            raise BackendError(f"no answer within {self._timeout:g} s") if hung.is_set() else self._death()
        answer: dict[str, Any] = parse_json(line)
        return answer

    def _death(self) -> BackendError:
        code = self._process.wait()
        self._complaints.seek(0)
        said = [line.strip() for line in self._complaints if line.strip()]
        if said and code >= 0:
            return BackendError(said[-1])
        signal = f"signal {-code}: out of memory?" if code == -9 else f"signal {-code}" if code < 0 else f"code {code}"
        return BackendError(f"its process ended with {signal}{f' after saying: {said[-1]}' if said else ''}")
