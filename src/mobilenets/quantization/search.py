"""Ladder search: trying one way to quantize after another, from the cheapest on, until one keeps the accuracy.

The search knows neither NNCF nor LiteRT: a step changes settings, `build` turns settings into a file, `score` measures
its accuracy. A change that wins nothing is dropped again, so that what later steps build on is the best found so far.
Each step tried is a rung of the ladder, with its accuracy and what it bought.

Activation ranges are found on calibration images. Ranges must be those the network will meet, so the images are real
ones, prepared as for evaluation and not augmented. They come from the training split, since accuracy is measured on the
others; and they are drawn, not taken from the front, for the first files of a sorted folder are all of one class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.loader import prepare
from mobilenets.data.sources import ImageSplit
from mobilenets.data.splits import stratified_sample
from mobilenets.errors import DataError, QuantizationError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.exporters.prepare import Exported
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.results import CalibrationSummary, Rung, Top1, within

Settings = TypeVar("Settings")
CALIBRATION_IMAGES: Final = 320
"""Within the 100 to 500 that post-training quantization is commonly given: ranges converge early, time grows on."""
BATCH: Final = 32


@dataclass(frozen=True)
class LadderStep(Generic[Settings]):
    """One thing to try: a name, one sentence on what it does, and how it changes the best settings so far."""

    name: str
    what: str
    change: Callable[[Settings], Settings]


@dataclass(frozen=True)
class QuantizedFile:
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
    """What is searched.

    Attributes:
        start: the settings the first step changes.
        steps: what to try, in order; taken one at a time, so a generator may measure before it yields.
        build: settings to a file.
    """

    start: Settings
    steps: Iterable[LadderStep[Settings]]
    build: Callable[[Settings], QuantizedFile]


@dataclass(frozen=True)
class SearchResult:
    """Where a ladder ended: every rung in order, and the file of the chosen one; None where none was good enough."""

    rungs: tuple[Rung, ...]
    chosen: QuantizedFile | None


def search_ladder(
    ladder: Ladder[Settings],
    score: Callable[[QuantizedFile], Top1],
    reference: Top1,
    *,
    max_drop: float,
    on_step: Callable[[LadderStep[Settings]], None] | None = None,
    on_rung: Callable[[Rung], None] | None = None,
) -> SearchResult:
    """Go up the ladder until a rung loses at most `max_drop` points, on the selection images and on all.

    Args:
        ladder: what to try.
        score: a file's accuracy.
        reference: that of the float file.
        max_drop: points of top-1 allowed.
        on_step: told of each step before it is built.
        on_rung: told of each rung when it is scored.

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
        rung = _rung(step, built, score(built), reference, best_drop, began)
        rungs.append(rung)
        if on_rung is not None:
            on_rung(rung)
        if within(rung.lost, max_drop):
            return SearchResult(tuple(rungs), built)
        if rung.drop.selection < best_drop:
            best_settings, best_drop = settings, rung.drop.selection
    if not rungs:
        raise QuantizationError("there is no way to quantize left to try: allow more steps")
    return SearchResult(tuple(rungs), None)


def _rung(
    step: LadderStep[Settings], built: QuantizedFile, top1: Top1, reference: Top1, best_drop: float, began: float
) -> Rung:
    drop = top1.drop_from(reference)
    return Rung(
        name=step.name,
        what=step.what,
        top1=top1,
        drop=drop,
        bought=best_drop - drop.selection if best_drop < float("inf") else 0.0,
        file_bytes=built.file_bytes,
        float_layers=built.float_layers,
        symmetric=built.symmetric,
        seconds=monotonic() - began,
    )


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """Images uint8 `[N, H, W, C]` as the exported file takes them, their labels `[N]`, and what to report of them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    summary: CalibrationSummary

    def batches(self, size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
        """The images in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self.images), size):
            yield self.images[start : start + size]


def draw_calibration(
    train: ImageSplit,
    preprocessing: Preprocessing,
    *,
    images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    skip_bad: bool = False,
) -> CalibrationImages:
    """Draw calibration images from the training split and prepare them as for evaluation.

    Args:
        train: the training split.
        preprocessing: the network's own.
        images: how many; all where there are no more.
        seed: draws them.
        skip_bad: leave unreadable ones out instead of raising.

    Raises:
        DataError: fewer than 1 image is asked for, or there is none.
        BadImagesError: an image drawn can't be read.
    """
    if images < 1:
        raise DataError(f"calibration needs at least 1 image, not {images}; {CALIBRATION_IMAGES} do well")
    if len(train) == 0:
        raise DataError("there are no training images to calibrate with: give the data the run was trained on")
    drawn = prepare(train.take(stratified_sample(train.labels, images, seed)), preprocessing, skip_bad=skip_bad)
    pixels = drawn.batch(np.arange(len(drawn)))
    return CalibrationImages(pixels, drawn.labels, CalibrationSummary(len(drawn), len(np.unique(drawn.labels)), seed))


def score(images: EvaluationSet, logits: NDArray[np.float32]) -> Top1:
    """Accuracy of answers `[N, K]` on the images that select, on the others (none of validation images), and on all."""
    report = None if images.validated else images.top1(logits, images.report)
    return Top1(images.top1(logits, images.selection), report, images.top1(logits))
