"""How long work reports what it does: the command line draws it, a program may draw it otherwise or ignore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class EpochPoint:
    """One epoch of a training curve; accuracy is that of the augmented images as they were trained on.

    The two of the validation images are of the network as it stood after the epoch, the averaged one where there is
    one; None without validation images.
    """

    epoch: int
    loss: float
    top1: float
    learning_rate: float
    seconds: float
    images_per_second: float
    validation_loss: float | None = None
    validation_top1: float | None = None


@dataclass(frozen=True)
class StepReport:
    """A step done: place in the run, the epoch's means so far, speed, seconds left for the whole run, how it learns."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    top1: float
    images_per_second: float
    seconds_left: float
    verb: str = "training"


Update = Callable[[str, int, int], None]
"""`Progress.update` alone, for functions that only count: what is done, how many are, and of how many."""

Count = Callable[[int, int], None]
"""The same of one piece of work: how many are done, and of how many."""


def counted(update: Update, what: str) -> Count:
    """`update` for a single piece of work, which then need not be named at each call."""
    return lambda done, total: update(what, done, total)


class Progress(Protocol):
    """Receives reports of work that takes long; every verb takes one as `progress`."""

    def message(self, text: str) -> None:
        """Something worth one line."""

    def update(self, what: str, done: int, total: int | None) -> None:
        """`done` of `total` items of a longer piece of work, e.g. decoding images; None where that is not known yet."""

    def step(self, report: StepReport) -> None:
        """A training step is done."""

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        """A training epoch is done."""


class Silent:
    """Ignores everything: the library's default."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def update(self, what: str, done: int, total: int | None) -> None:
        """Ignore it."""

    def step(self, report: StepReport) -> None:
        """Ignore it."""

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        """Ignore it."""
