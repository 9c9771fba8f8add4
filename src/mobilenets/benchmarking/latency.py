"""How long a call takes, measured so that two networks can be compared; no PyTorch here.

The regime:

1. *Warm-up*: every call runs a few times unmeasured (first calls allocate, compile and fill caches).
2. *Alternation*: a round calls everything once. Whatever slows the machine for a while (heat, another program) then
   slows everything alike, instead of the one network that happened to be measured at that moment. The order rotates,
   and turns round after every full rotation, so that nobody always runs first or always follows the same neighbour.
3. *Rounds*: at least `rounds`, and on until `seconds` have passed. Slow networks so get enough calls, and fast ones,
   whose single calls scatter more, get many.
4. *Figures*: median, 95th percentile, interquartile range. Never the mean, which one interruption can double, nor the
   minimum, which no user ever sees. Python's garbage collector is off while measuring, since when it runs is chance.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

import numpy as np
from numpy.typing import ArrayLike

from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.results import Latency


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 5,
    rounds: int = 50,
    seconds: float = 0.0,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, Latency]:
    """Time each of `calls`, alternating between them.

    Args:
        calls: what to time, by name; each is called without arguments and its answer dropped.
        warmup: unmeasured calls of each, at least 0.
        rounds: measured calls of each, at least 1.
        seconds: time budget of the measured rounds; where `rounds` take less, more rounds follow until it is spent.
        progress: called after each round, outside the measured time, with the number of rounds done.
        clock: nanoseconds that never go back; tests pass their own.

    Returns:
        For each name, times of one call in milliseconds.

    Raises:
        MobilenetsError: nothing to time, or `warmup`, `rounds` or `seconds` out of range.
    """
    if not calls:
        raise MobilenetsError("there is nothing to measure: pass at least one call")
    if warmup < 0 or rounds < 1 or not 0 <= seconds < float("inf"):
        raise MobilenetsError(
            f"latency needs warmup >= 0, rounds >= 1 and finite seconds >= 0, not {warmup}, {rounds} and {seconds}"
        )
    names = tuple(calls)
    for number in range(warmup):
        for name in round_order(names, number):
            calls[name]()
    times: dict[str, list[int]] = {name: [] for name in names}
    with _garbage_collection_paused():
        end = clock() + int(seconds * 1e9)
        done = 0
        while done < rounds or clock() < end:
            for name in round_order(names, done):
                call = calls[name]
                start = clock()
                call()
                times[name].append(clock() - start)
            done += 1
            if progress is not None:
                progress(done)
    return {name: summarize(values) for name, values in times.items()}


def round_order(names: Sequence[str], number: int) -> tuple[str, ...]:
    """The order of round `number`: A B C, B C A, C A B, then the same backwards, and again."""
    start = number % len(names)
    rotated = (*names[start:], *names[:start])
    backwards = number // len(names) % 2 == 1
    return rotated[::-1] if backwards else rotated


def summarize(nanoseconds: ArrayLike) -> Latency:
    """Median, 95th percentile and interquartile range in milliseconds of measured times."""
    values = np.asarray(nanoseconds, dtype=np.float64) / 1e6
    first, median, third, p95 = (float(value) for value in np.percentile(values, (25, 50, 75, 95)))
    return Latency(median_ms=median, p95_ms=p95, iqr_ms=third - first, calls=values.size)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
