"""The sizes and kinds of all readable pictures: what there is, whether or not anything is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median_low
from typing import Final

from mobilenets.checkup.facts import Facts
from mobilenets.checkup.results import Extent, Measures, SideRange

_TURNED: Final = 5
"""EXIF orientations from here on exchange width and height."""


def measure(seen: Iterable[Facts]) -> Measures | None:
    """Sum up pictures as a person sees them, upright; None where there is none."""
    headers = [facts.header for facts in seen]
    if not headers:
        return None
    sizes = [(one.height, one.width) if one.orientation >= _TURNED else (one.width, one.height) for one in headers]
    sides = Counter((min(size).bit_length() - 1) for size in sizes)
    return Measures(
        width=_extent([width for width, _ in sizes]),
        height=_extent([height for _, height in sizes]),
        shorter_side=tuple(
            SideRange(2**power, 2 ** (power + 1) - 1, sides[power]) for power in range(min(sides), max(sides) + 1)
        ),
        formats=tuple(Counter(one.format for one in headers).most_common()),
        modes=tuple(Counter(one.mode for one in headers).most_common()),
    )


def _extent(values: list[int]) -> Extent:
    return Extent(min(values), median_low(values), max(values))
