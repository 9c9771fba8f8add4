"""Starting a process for every candidate, several times over: what cold start and peak memory are read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from mobilenets.benchmarking.candidate import Candidate
from mobilenets.benchmarking.process import Worker
from mobilenets.benchmarking.results import Failure
from mobilenets.errors import BackendError, MobilenetsError
from mobilenets.machine import usable_memory

Progress = Callable[[str, int, int], None]
"""Told what is going on, how far it is, and out of how much."""

TWIN = " (twin)"
_MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Started:
    """What the fresh processes of a candidate showed."""

    cold_start_ms: float
    peak_memory_mb: float
    precision: str


def start_all(
    candidates: Sequence[Candidate], starts: int, stack: ExitStack, tell: Progress
) -> tuple[dict[str, Worker], dict[str, Started], list[Failure]]:
    """Start every candidate several times in turn; the last process of each stays, and a twin of the first.

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
    workers[first.candidate.label + TWIN] = stack.enter_context(Worker(first.candidate))
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
