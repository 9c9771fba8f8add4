"""Trying one way to quantize after another, from the cheapest on, until one keeps the accuracy.

The ladder knows neither NNCF nor LiteRT: a step changes settings, `build` turns settings into a file, `judge` scores
it. A change that wins nothing is dropped again, so that what later steps build on is the best found so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from mobilenets.errors import QuantizationError
from mobilenets.exporters.prepare import Exported
from mobilenets.quantization.results import Rung, Top1, within

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Step(Generic[Settings]):
    """One thing to try: a name, one sentence on what it does, and how it changes the best settings so far."""

    name: str
    what: str
    change: Callable[[Settings], Settings]


@dataclass(frozen=True)
class Built:
    """An 8-bit network: its files, the layers that stayed float, and whether it is symmetric int8 throughout."""

    exported: Exported
    float_layers: tuple[str, ...] = ()
    symmetric: bool = False

    @property
    def file_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(len(content) for content in self.exported.payload.values())


@dataclass(frozen=True)
class Ladder(Generic[Settings]):
    """What is climbed.

    Attributes:
        start: the settings the first step changes.
        steps: what to try, in order; taken one at a time, so a generator may measure before it yields.
        build: settings to a file.
    """

    start: Settings
    steps: Iterable[Step[Settings]]
    build: Callable[[Settings], Built]


@dataclass(frozen=True)
class Climb:
    """Where a ladder ended: every rung in order, and the file of the chosen one; None where none was good enough."""

    rungs: tuple[Rung, ...]
    chosen: Built | None


def climb(
    ladder: Ladder[Settings],
    judge: Callable[[Built], Top1],
    reference: Top1,
    *,
    max_drop: float,
    on_step: Callable[[Step[Settings]], None] | None = None,
    on_rung: Callable[[Rung], None] | None = None,
) -> Climb:
    """Climb until a rung loses at most `max_drop` points, on the selection images and on all.

    Args:
        ladder: what to try.
        judge: a file's accuracy.
        reference: that of the float file.
        max_drop: points of top-1 allowed.
        on_step: told of each step before it is built.
        on_rung: told of each rung when it is judged.

    Raises:
        QuantizationError: there are no steps.
    """
    rungs: list[Rung] = []
    best_settings, best_drop = ladder.start, float("inf")
    for step in ladder.steps:
        if on_step is not None:
            on_step(step)
        began = monotonic()
        settings = step.change(best_settings)
        built = ladder.build(settings)
        rung = _rung(step.name, step.what, built, judge(built), reference, best_drop, began)
        rungs.append(rung)
        if on_rung is not None:
            on_rung(rung)
        if within(rung.lost, max_drop):
            return Climb(tuple(rungs), built)
        if rung.drop.selection < best_drop:
            best_settings, best_drop = settings, rung.drop.selection
    if not rungs:
        raise QuantizationError("there is no way to quantize left to try: allow more steps")
    return Climb(tuple(rungs), None)


def _rung(name: str, what: str, built: Built, top1: Top1, reference: Top1, best_drop: float, began: float) -> Rung:
    drop = top1.drop_from(reference)
    return Rung(
        name=name,
        what=what,
        top1=top1,
        drop=drop,
        bought=best_drop - drop.selection if best_drop < float("inf") else 0.0,
        file_bytes=built.file_bytes,
        float_layers=built.float_layers,
        symmetric=built.symmetric,
        seconds=monotonic() - began,
    )
