"""All that is known of a data set once it has been looked at: what every check judges by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mobilenets.checkup.duplicates import Pair
from mobilenets.checkup.examination import Examination
from mobilenets.checkup.facts import Facts
from mobilenets.checkup.inventory import RANKS, Entry, Inventory
from mobilenets.checkup.results import ClassCount, Example, Finding, Severity
from mobilenets.deep_pixels import AS_STORED, DeepPixels


@dataclass(frozen=True, eq=False)
class Case:
    """All there is to judge by."""

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
        """Of the image at a place: the higher stays, where a picture is in two splits."""
        return RANKS[self.entries[place].split]

    def seen(self) -> Iterator[tuple[Entry, Facts]]:
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


def finding(kind: str, severity: Severity, title: str, examples: Sequence[Example], advice: str) -> Iterator[Finding]:
    """A finding, if there is anything to show for it."""
    if examples:
        yield Finding(kind, severity, title, len(examples), advice, tuple(examples))
