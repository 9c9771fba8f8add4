"""How long a call takes, measured so that two networks can be compared; no PyTorch here.

The regime:

1. *Warm-up*: every call runs a few times unmeasured (first calls allocate, compile and fill caches).
2. *Alternation*: a round calls everything once. Whatever slows the machine for a while (heat, another program) then
   slows everything equally, instead of the one network that happened to be measured at that moment. The order rotates,
   and is reversed after every full rotation, so that none always runs first or always follows the same neighbour.
3. *Rounds*: at least `rounds`, and on until `seconds` have passed. Slow networks so get enough calls, and fast ones,
   whose single calls scatter more, get many.
4. *Figures*: median, 95th percentile, interquartile range. Never the mean, which one interruption can double, nor the
   minimum, which no user ever sees. Python's garbage collector is off while measuring, since when it runs is chance.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from time import perf_counter_ns
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mobilenets.benchmarking.results import Failure, Measurement, Ratio
from mobilenets.errors import BackendError, MobilenetsError
from mobilenets.evaluation.results import Latency


def time_rounds(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 5,
    rounds: int = 50,
    seconds: float = 0.0,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, list[int]]:
    """Time each of `calls`, alternating between them.

    Args:
        calls: what to time, by name; each is called without arguments and its answer dropped.
        warmup: unmeasured calls of each, at least 0.
        rounds: measured calls of each, at least 1.
        seconds: time budget of the measured rounds; where `rounds` take less, more rounds follow until it is spent.
        progress: called after each round, outside the measured time, with the number of rounds done.
        clock: nanoseconds that never go back; tests pass their own.

    Returns:
        For each name, nanoseconds of its call in every round.

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
    return times


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


DRAWS = 2000
MAX_BLOCKS = 100
_SEED = 0  # the same measurements give the same intervals
_INTERVAL = (2.5, 97.5)


def ratios(turns: Mapping[str, Sequence[float]], batch_size: int, floor: float = 0.0) -> tuple[Ratio, ...]:
    """Compare every pair of candidates by a bootstrap over the rounds they shared.

    A round gives each candidate one turn, and whatever slowed the machine in that round slowed all of them. So rounds
    are drawn, not calls: each draw takes the same rounds for every candidate, and the ratio of two medians keeps what
    pairing gained. Calls of one turn are not independent of each other; counting them as if they were would make every
    interval far too narrow (percentile bootstrap over blocks; Efron and Tibshirani 1993, chapters 8 and 13).

    Args:
        turns: for each candidate, the median time of its turn in each round, in milliseconds; all equally long.
        batch_size: what they were measured at; goes into the records.
        floor: relative difference, e.g. 0.03, below which two candidates count as equally fast whatever their interval.

    Returns:
        Time of the first over time of the second of every pair, in the order of `turns`.

    Raises:
        MobilenetsError: no round, rounds that don't match, or a time that is not above 0.
    """
    times = _matrix(turns)
    chosen = np.random.default_rng(_SEED).integers(0, times.shape[1], (DRAWS, times.shape[1]))
    drawn = [np.median(row[chosen], axis=1) for row in times]
    medians = np.median(times, axis=1)
    found = []
    for (i, first), (j, second) in combinations(enumerate(turns), 2):
        ratio = float(medians[i] / medians[j])
        # Of logarithms, whose interpolation is the same from either side: the interval of b/a is that of a/b turned.
        low, high = (math.exp(end) for end in np.percentile(np.log(drawn[i] / drawn[j]), _INTERVAL))
        distinct = not low <= 1 <= high and relative_difference(ratio) > floor
        found.append(Ratio(first, second, batch_size, ratio, low, high, distinct))
    return tuple(found)


def round_ratios(times: Mapping[str, Sequence[int]]) -> tuple[Ratio, ...]:
    """Compare what `time_rounds` timed, every pair, at batch 1.

    Neighbouring rounds share what slowed the machine and are no independent measurements: up to `MAX_BLOCKS` blocks of
    them are drawn, each by its median.
    """
    turns = {
        name: [float(np.median(block)) / 1e6 for block in np.array_split(values, min(len(values), MAX_BLOCKS))]
        for name, values in times.items()
    }
    return ratios(turns, batch_size=1)


def relative_difference(ratio: float) -> float:
    """How far a ratio is from 1, the same in both directions: 1.25 and 0.8 are both 0.25."""
    return math.exp(abs(math.log(ratio))) - 1


def drift(turns: Sequence[float]) -> float:
    """Median of the second half of the rounds over that of the first; 1 where there is only one round."""
    half = len(turns) // 2
    if half == 0:
        return 1.0
    return float(np.median(turns[-half:]) / np.median(turns[:half]))


def _matrix(turns: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    lengths = {len(values) for values in turns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise MobilenetsError(f"candidates are compared over the same rounds, at least one, not {sorted(lengths)}")
    times = np.array(list(turns.values()), dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise MobilenetsError("a turn's time must be a number above 0")
    return times


TURN_SECONDS = 0.05
LEAST_ROUNDS = 10


class TurnTaker(Protocol):
    """What answers turns: a worker process, or in tests anything."""

    def turn(self, batch_size: int, seconds: float) -> list[int]:
        """Answer batches for `seconds`; nanoseconds of each call."""


@dataclass(frozen=True)
class Timed:
    """Times of the candidates, by label, and those that crashed.

    Attributes:
        calls: nanoseconds of each call of the turn in each round, the rounds all share.
        failures: candidates that crashed, and the error.
    """

    calls: Mapping[str, Sequence[Sequence[int]]]
    failures: tuple[Failure, ...] = ()

    @property
    def turns(self) -> dict[str, list[float]]:
        """Median milliseconds of each turn."""
        return {label: [float(np.median(times)) / 1e6 for times in turns] for label, turns in self.calls.items()}

    def measurement(self, label: str, batch_size: int) -> Measurement:
        """Sum up one candidate's times, every turn weighing equally.

        In a bad moment a turn has fewer calls than in a good one, so calls thrown together would favour the good ones.
        The median is that of the turns' medians, which is also what two candidates are compared by.
        """
        calls = self.calls[label]
        times = np.concatenate([np.asarray(turn, dtype=np.float64) for turn in calls]) / 1e6
        weights = np.concatenate([np.full(len(turn), 1 / len(turn)) for turn in calls])
        first, third, p95 = (
            float(end) for end in np.quantile(times, (0.25, 0.75, 0.95), weights=weights, method="inverted_cdf")
        )
        turns = self.turns[label]
        latency = Latency(median_ms=float(np.median(turns)), p95_ms=p95, iqr_ms=third - first, calls=times.size)
        return Measurement(batch_size, latency, batch_size / latency.median_ms * 1e3, drift(turns))


def time_turns(
    takers: Mapping[str, TurnTaker],
    batch_size: int,
    *,
    seconds: float,
    progress: Callable[[float], None] | None = None,
) -> Timed:
    """Time all candidates at one batch size in alternating turns.

    A round gives every candidate one turn of at most a twentieth of a second, in the order of `round_order`. The first
    round is warm-up and dropped. Rounds follow until the time budget is measured, and at least `LEAST_ROUNDS`: with
    fewer, an interval over rounds means nothing.

    Args:
        takers: what answers, by label. One that fails is left out from then on.
        batch_size: images a call.
        seconds: measured time for each candidate, on average.
        progress: called after each round with the share of the work done, 0 to 1.
    """
    turn_seconds = min(TURN_SECONDS, seconds / LEAST_ROUNDS)
    alive = dict(takers)
    calls: dict[str, list[list[int]]] = {label: [] for label in takers}
    failures: list[Failure] = []
    done, measured = -1, 0.0  # round -1 is warm-up
    while alive and (done < LEAST_ROUNDS or measured < seconds * len(alive)):
        for label in round_order(tuple(alive), max(done, 0)):
            try:
                times = alive[label].turn(batch_size, turn_seconds)
            except BackendError as error:
                failures.append(Failure(label, f"batch {batch_size}: {error}"))
                del alive[label], calls[label]
                continue
            if done >= 0:
                calls[label].append(times)
                measured += sum(times) / 1e9
        done += 1
        if progress is not None and alive:
            progress(_share(done, measured, seconds * len(alive)))
    return Timed(calls, tuple(failures))


def _share(rounds: int, measured: float, budget: float) -> float:
    return min(rounds / LEAST_ROUNDS, measured / budget if budget else 1.0, 1.0)
