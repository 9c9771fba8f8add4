"""Images that are there twice: the same picture, or nearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.checkup.facts import FLAT, Facts

NEAR_BITS: Final = 10
"""Bits in which the hashes of two prints of one picture may differ."""
LOOK_DISTANCE: Final = 12.0
"""Grey values by which their 8x8 pictures may differ on average, once both have the same brightness."""
LOOK_LIKENESS: Final = 0.9
"""Correlation of their 8x8 pictures at least: two empty skies differ by few grey values, but in nothing else."""
_BLOCK: Final = 1024

Pair = tuple[int, int]
"""Places of two images, the smaller first."""


def exact_groups(facts: Sequence[Facts | None]) -> list[tuple[int, ...]]:
    """Places of images that are the same picture, pixel for pixel, in groups of two and more."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, one in enumerate(facts):
        if one is not None:
            groups[one.digest].append(place)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near_pairs(facts: Sequence[Facts | None], progress: Callable[[int, int], None] | None = None) -> list[Pair]:
    """Pairs of images that look alike and are not the same pixel for pixel.

    Their hashes differ in at most `NEAR_BITS`, and their 8x8 pictures by little. Images of one colour are left out: all
    of them look alike.

    Args:
        facts: of each image; None for one that can't be read.
        progress: told the images compared with all others, and how many there are.
    """
    places = np.array([place for place, one in enumerate(facts) if one is not None and one.contrast >= FLAT], np.int64)
    known = [one for place in places if (one := facts[place]) is not None]
    hashes = np.array([one.hash for one in known], np.uint64)
    looks = np.array([centred(one.look) for one in known], np.float32)
    pairs = []
    for first, second in close_hashes(hashes, NEAR_BITS, progress):
        one, other = looks[first], looks[second]
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        alike = (one * other).sum(axis=1) >= LOOK_LIKENESS * lengths
        alike &= np.abs(one - other).mean(axis=1) <= LOOK_DISTANCE
        for a, b in zip(first[alike], second[alike], strict=True):
            if known[a].digest != known[b].digest:
                pairs.append((int(places[a]), int(places[b])))
    return sorted(pairs)


def close_hashes(
    hashes: NDArray[np.uint64], bits: int, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield places of pairs of hashes that differ in at most `bits`, each pair once, some at a time.

    All are compared with all, 1024 against the rest: 60,000 take some seconds, and no structure has to be right.
    """
    count = len(hashes)
    for start in range(0, count, _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        differing = np.bitwise_count(block ^ hashes[None, start:])
        first, second = np.nonzero(differing <= bits)
        once = second > first  # within the block itself, every pair stands twice
        if once.any():
            yield first[once] + start, second[once] + start
        if progress is not None:
            progress(min(start + _BLOCK, count), count)


def centred(look: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An 8x8 picture `[8, 8, 3]` as 192 numbers, less its own mean: two prints may differ in brightness."""
    values = look.astype(np.float32)
    flat: NDArray[np.float32] = (values - values.mean()).ravel()
    return flat
