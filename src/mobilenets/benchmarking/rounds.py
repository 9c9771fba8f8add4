"""Alternating turns over all candidates: what makes two of them comparable on a machine that is never quite still.

A round gives every candidate one turn of at most a twentieth of a second, in an order that rotates and turns round
(`latency.round_order`). Whatever slows the machine for a while (heat, another program) so slows all of them alike. The
first round is warm-up and dropped. Rounds follow until the time budget is measured, and at least `LEAST_ROUNDS`: with
fewer, an interval over rounds means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mobilenets.benchmarking.latency import round_order
from mobilenets.benchmarking.noise import drift
from mobilenets.benchmarking.results import Failure, Measurement
from mobilenets.errors import BackendError
from mobilenets.evaluation.results import Latency

TURN_SECONDS = 0.05
LEAST_ROUNDS = 10


class TurnTaker(Protocol):
    """What answers turns: a worker process, or in tests anything."""

    def turn(self, batch_size: int, seconds: float) -> list[int]:
        """Answer batches for `seconds`; nanoseconds of each call."""


@dataclass(frozen=True)
class Timed:
    """Times of the candidates that lasted, by label, and those that did not.

    Attributes:
        calls: nanoseconds of each call of the turn in each round, the rounds all share.
        failures: who died, and why.
    """

    calls: Mapping[str, Sequence[Sequence[int]]]
    failures: tuple[Failure, ...] = ()

    @property
    def turns(self) -> dict[str, list[float]]:
        """Median milliseconds of each turn."""
        return {label: [float(np.median(times)) / 1e6 for times in turns] for label, turns in self.calls.items()}

    def measurement(self, label: str, batch_size: int) -> Measurement:
        """Sum up one candidate's times, every turn weighing alike.

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
    """Time all candidates at one batch size.

    Args:
        takers: who answers, by label. One that fails is left out from then on.
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
