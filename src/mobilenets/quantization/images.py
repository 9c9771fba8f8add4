"""The images that activation ranges are found on, and the accuracy of a file on those that select."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.loader import prepare
from mobilenets.data.sampling import stratified_sample
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.results import CalibrationSummary, Top1

# Which training images the activation ranges of an 8-bit network are found on.
#
# Ranges must be those the network will meet, so the images are real ones, prepared as for evaluation and not
# augmented.
# They come from the training split, since accuracy is judged on the other. And they are drawn, not taken from the
# front:
# the first files of a sorted folder are all of one class.


DEFAULT_IMAGES: Final = 320
"""Within the 100 to 500 that post-training quantization is commonly given: ranges settle early, time grows on."""
BATCH: Final = 32


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
    images: int = DEFAULT_IMAGES,
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
        raise DataError(f"calibration needs at least 1 image, not {images}; {DEFAULT_IMAGES} do well")
    if len(train) == 0:
        raise DataError("there are no training images to calibrate with: give the data the run was trained on")
    drawn = prepare(train.take(stratified_sample(train.labels, images, seed)), preprocessing, skip_bad=skip_bad)
    pixels = drawn.batch(np.arange(len(drawn)))
    return CalibrationImages(pixels, drawn.labels, CalibrationSummary(len(drawn), len(np.unique(drawn.labels)), seed))


def score(images: EvaluationSet, logits: NDArray[np.float32]) -> Top1:
    """Accuracy of answers `[N, K]` on the images that select, on the others (none of validation images), and on all."""
    report = None if images.validated else images.top1(logits, images.report)
    return Top1(images.top1(logits, images.selection), report, images.top1(logits))
