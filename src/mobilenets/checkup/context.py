"""All that is known of a data set once its images have been decoded: what every check reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from mobilenets.checkup.examination import Examination, ImageFacts
from mobilenets.checkup.inventory import RANKS, Entry, Inventory
from mobilenets.checkup.near_duplicates import Pair
from mobilenets.checkup.results import ClassCount, Extent, Measures, SideRange
from mobilenets.image_formats import AS_STORED, DeepPixels


@dataclass(frozen=True, eq=False)
class CheckContext:
    """What is known of a data set.

    Attributes:
        inventory: its images by split and class, and the files that are none.
        examination: what decoding told of each image.
        same: places of images with equal pixels, in groups.
        near: pairs of places of near-duplicates.
        deep: how more than 8 bits a sample are scaled.
    """

    inventory: Inventory
    examination: Examination
    same: Sequence[tuple[int, ...]]
    near: Sequence[Pair]
    deep: DeepPixels = AS_STORED

    @property
    def entries(self) -> Sequence[Entry]:
        """The images."""
        return self.inventory.entries

    def rank(self, place: int) -> int:
        """Of the image at a place: the higher stays, where an image is in two splits."""
        return RANKS[self.entries[place].split]

    def seen(self) -> Iterator[tuple[Entry, ImageFacts]]:
        """Images that could be read, with their facts."""
        for entry, facts in zip(self.entries, self.examination.facts, strict=True):
            if facts is not None:
                yield entry, facts


def class_counts(inventory: Inventory) -> tuple[ClassCount, ...]:
    """How many images each class has in each split."""
    counts = {(split, label): 0 for split in inventory.splits for label in inventory.classes}
    for entry in inventory.entries:
        counts[entry.split, entry.label] += 1
    return tuple(
        ClassCount(label, tuple(counts[split, label] for split in inventory.splits)) for label in inventory.classes
    )


_TURNED: Final = 5
"""EXIF orientations from here on exchange width and height."""


def measure(seen: Iterable[ImageFacts]) -> Measures | None:
    """Sum up the sizes and kinds of readable images, upright; None where there is none."""
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
