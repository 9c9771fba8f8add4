"""The process that runs one candidate: `python -m mobilenets.benchmarking.worker CANDIDATE`, speaking JSON.

Every candidate has a process of its own, which the benchmark asks in turn; `latency` alternates them. Within one
process candidates disturb each other: the threads of ONNX Runtime and PyTorch go on spinning after a call, to be quick
for the next. On a machine of 2 cores, an ONNX Runtime session of 2 threads was measured to burn a whole core for 30 to
45 ms after each call, ten times what a call of MobileNetV2 takes: alternating call by call, each candidate would race
against the spinning threads of the one before. So a turn is

1. one call unmeasured, which wakes the threads and fills the caches (none where a call outlasts the turn);
2. calls until the turn's time is spent, at least one;
3. waiting until this process stops using the processor, and only then the answer.

Nothing else than a process can be limited to as many cores as it has threads, either, or tell its own peak memory.

Protocol: after its first answer the process prints `{"peak_bytes": ..., "precision": ...}`. Then it asks an artifact
its golden pairs, since times of wrong answers are worth nothing, and prints `{"checked": true}`. Then for every line
`{"batch": B, "seconds": S}` it prints `{"nanoseconds": [...]}`. It ends when its input does. What goes wrong ends it
with one line on its standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mobilenets.benchmarking.candidates import BenchmarkCandidate
from mobilenets.benchmarking.peers import Opened, open_with_defaults
from mobilenets.errors import MobilenetsError
from mobilenets.limits import parse_json

if TYPE_CHECKING:
    from mobilenets.runtime.backend import Backend


# Which cores a process may run on, so that a candidate of two threads has two cores and no more.


_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
# Arm's kernels tell a capacity, others the highest clock rate.
_SPEEDS = ("/sys/devices/system/cpu/cpu{}/cpu_capacity", "/sys/devices/system/cpu/cpu{}/cpufreq/cpuinfo_max_freq")


def pin(threads: int) -> tuple[int, ...]:
    """Limit this process to as many cores as it has threads; call it before any runtime starts its threads.

    Where the system has no such setting (macOS, Windows), the runtimes' own number of threads is all that holds.

    Returns:
        The cores, empty where nothing was set.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    cores = spread(sorted(os.sched_getaffinity(0)))[:threads]
    os.sched_setaffinity(0, cores)
    return tuple(cores)


def spread(cores: list[int]) -> list[int]:
    """Order logical cores by how well they do alone: one of each physical core first, of those the fastest first.

    Two halves of one physical core are no two cores, and many phones and laptops mix fast cores with slow ones.
    """
    seen: dict[str, int] = {}
    ranked = []
    for core in cores:
        siblings = _text(_SIBLINGS, core) or str(core)
        seen[siblings] = seen.get(siblings, -1) + 1
        ranked.append((seen[siblings], -_speed(core), core))
    return [core for *_, core in sorted(ranked)]


def _speed(core: int) -> int:
    """The kernel's measure of a core's speed, 0 where it has none."""
    return next((int(text) for place in _SPEEDS if (text := _text(place, core)).isdigit()), 0)


def _text(place: str, core: int) -> str:
    try:
        return Path(place.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return ""


# The most memory this process has held, as each system tells it; no PyTorch here.


_KIB = 1024


def peak_resident_bytes() -> int:
    """The most physical memory this process has held so far.

    Linux's `VmHWM` starts anew with the program. `getrusage` there does not: a child inherits the peak of the process
    that started it, so that under a training process every small network would seem to need a gigabyte.
    """
    return _peak_resident_bytes()


if sys.platform == "win32":

    def _peak_resident_bytes() -> int:
        import ctypes
        from ctypes import wintypes

        class Counters(ctypes.Structure):
            """PROCESS_MEMORY_COUNTERS of psapi.h."""

            _fields_ = (
                ("cb", wintypes.DWORD),
                ("PageFaultCount", wintypes.DWORD),
                ("PeakWorkingSetSize", ctypes.c_size_t),
                ("WorkingSetSize", ctypes.c_size_t),
                ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
                ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
                ("PagefileUsage", ctypes.c_size_t),
                ("PeakPagefileUsage", ctypes.c_size_t),
            )

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.GetCurrentProcess.restype = wintypes.HANDLE
        kernel32.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
        counters = Counters(cb=ctypes.sizeof(Counters))
        if not kernel32.K32GetProcessMemoryInfo(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
            raise MobilenetsError(f"Windows does not tell this process's memory (error {ctypes.get_last_error()})")
        return int(counters.PeakWorkingSetSize)

else:

    def _peak_resident_bytes() -> int:
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * _KIB
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KIB


Call = Callable[[], object]

_QUIET_SHARE = 0.2  # of one core, below which threads count as asleep
_QUIET_STEPS = 2
_LONGEST_WAIT = 1.0  # seconds; threads that never sleep must not stop the benchmark


def open_candidate(candidate: BenchmarkCandidate) -> Opened:
    """Open what a candidate names.

    Raises:
        MobilenetsError: it can't be opened; the kinds are those of the runtime and of `peers`.
    """
    if candidate.source == "pytorch":
        from mobilenets.benchmarking.peers import open_pytorch

        return open_pytorch(candidate.arguments, candidate.threads)
    if candidate.source == "file":
        threads = None if candidate.default_threads else candidate.threads
        return open_with_defaults(Path(candidate.path), candidate.backend, threads)
    return _open_artifact(candidate)


def _open_artifact(candidate: BenchmarkCandidate) -> Opened:
    import numpy as np

    from mobilenets.artifact.container import read_artifact
    from mobilenets.runtime.backend import open_backend

    artifact = read_artifact(Path(candidate.path))
    golden = artifact.description.golden.images

    def backend() -> Backend:
        return open_backend(
            artifact, backend=candidate.backend, threads=candidate.threads, precision=candidate.precision or None
        )

    first = backend()

    def prepare(batch: int) -> Call:
        # Opened anew for each batch size: OpenVINO's is compiled for the first few it meets, and no later one.
        opened = first if batch == 1 else backend()
        return partial(opened.predict, np.resize(golden, (batch, *golden.shape[1:])))

    def check() -> float:
        from mobilenets.runtime.classifier import check_golden  # here: the cold start needs none of it

        return check_golden(artifact, first)

    return Opened(prepare, first.precision, check)


def take_turn(call: Call, seconds: float, *, lead_in: bool) -> list[int]:
    """Time calls until `seconds` are spent, at least one; nanoseconds of each."""
    if lead_in:
        call()
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    times: list[int] = []
    while not times or clock() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return times


def wait_until_idle() -> float:
    """Wait until this process's threads sleep, at most a second; returns the seconds waited."""
    # A step must be long enough for the clock of used processor time to move (15.6 ms on Windows).
    step = max(0.005, 2 * time.get_clock_info("process_time").resolution)
    start, used, quiet = time.monotonic(), time.process_time(), 0
    while quiet < _QUIET_STEPS and time.monotonic() - start < _LONGEST_WAIT:
        time.sleep(step)
        now = time.process_time()
        quiet = quiet + 1 if now - used < _QUIET_SHARE * step else 0
        used = now
    return time.monotonic() - start


def serve(candidate: BenchmarkCandidate, requests: TextIO, answers: TextIO) -> None:
    """Open the candidate, answer one image, check its answers, then take turns until `requests` ends."""
    opened = open_candidate(candidate)
    calls = {1: opened.prepare(1)}
    calls[1]()
    _say(answers, {"peak_bytes": peak_resident_bytes(), "precision": opened.precision})
    opened.check()
    _say(answers, {"checked": True})
    gc.collect()
    gc.disable()  # when it runs is chance
    slowest = 0.0
    for line in requests:
        request = parse_json(line)
        batch, seconds = int(request["batch"]), float(request["seconds"])
        if batch not in calls:
            calls[batch], slowest = opened.prepare(batch), 0.0
        times = take_turn(calls[batch], seconds, lead_in=slowest < seconds)
        slowest = max(times) / 1e9
        wait_until_idle()
        _say(answers, {"nanoseconds": times})


def _say(answers: TextIO, what: dict[str, object]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _main(text: str) -> int:
    # Runtimes print on standard output what they like; answers go where it led, it leads to standard error from here.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    candidate = BenchmarkCandidate.from_json(text)
    pin(candidate.threads)
    try:
        serve(candidate, sys.stdin, answers)
    except MobilenetsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
