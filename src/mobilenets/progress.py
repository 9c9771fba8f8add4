"""What a run tells whoever watches it; the command line draws it, a program may ignore it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mobilenets.evaluation.results import EpochPoint


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


class Observer(Protocol):
    """Receives reports while a network is prepared, trained and scored."""

    def message(self, text: str) -> None:
        """Something worth one line."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` items of a longer piece of work, e.g. decoding images."""

    def step(self, report: StepReport) -> None:
        """A training step is done."""

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        """A training epoch is done."""


class Silent:
    """An observer that ignores everything: the library's default."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Ignore it."""

    def step(self, report: StepReport) -> None:
        """Ignore it."""

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        """Ignore it."""


# Who is told what a long piece of work is doing.


class Watcher(Protocol):
    """Told what is going on."""

    def message(self, text: str) -> None:
        """Something worth one line."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` items of a longer piece of work."""


class Unwatched:
    """Ignores everything: the library's default."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Ignore it."""
