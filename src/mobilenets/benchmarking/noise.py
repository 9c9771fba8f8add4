"""Whether two candidates can be told apart: a bootstrap over the rounds they shared.

A round gives each candidate one turn, and whatever slowed the machine in that round slowed all of them. So rounds are
drawn, not calls: each draw takes the same rounds for every candidate, and the ratio of two medians keeps what pairing
gained. Calls of one turn are not independent of each other; counting them as if they were would make every interval
far too narrow (percentile bootstrap over blocks; Efron and Tibshirani 1993, chapters 8 and 13).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mobilenets.benchmarking.results import Ratio
from mobilenets.errors import MobilenetsError

DRAWS = 2000
_SEED = 0  # the same measurements give the same intervals
_INTERVAL = (2.5, 97.5)


def ratios(turns: Mapping[str, Sequence[float]], batch_size: int, floor: float = 0.0) -> tuple[Ratio, ...]:
    """Compare every pair of candidates.

    Args:
        turns: for each candidate, the median time of its turn in each round, in milliseconds; all equally long.
        batch_size: what they were measured at; goes into the records.
        floor: relative difference, e.g. 0.03, below which two candidates count as alike whatever their interval.

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
