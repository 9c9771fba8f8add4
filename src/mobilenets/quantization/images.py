"""Scoring files on validation images or, where there are none, on test images of which one half decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.sampling import halves, stratified_sample
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError, ModelError
from mobilenets.evaluation.predictions import Predict, correct_answers
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


FEWEST_IMAGES = 2


class Judge:
    """The images that rungs are judged on, the same for every file; test images are cut in two stratified halves.

    Args:
        images: validation images, or test images.
        classes: the K class names.
        seed: cuts the halves.
        validated: whether they are validation images: all of them decide.

    Attributes:
        validated: as given.
        labels: true classes, `[N]`.
        selection: positions of those that decide.
        report: positions of the others.
        left_out: unreadable images that were skipped on request, a sentence each.
    """

    def __init__(self, images: PreparedImages, classes: Sequence[str], seed: int, *, validated: bool = False) -> None:
        if len(images) < FEWEST_IMAGES:
            split = "validation" if validated else "test"
            raise DataError(f"accuracy can't be judged on {len(images)} image: give data with a larger {split} split")
        self._images = images
        self._classes = len(classes)
        self.labels = images.labels
        self.left_out = tuple(f"left out: {image.name}: {image.reason}" for image in images.skipped)
        self.validated = validated
        everything = np.arange(len(images))
        self.selection, self.report = (everything, everything[:0]) if validated else halves(self.labels, seed)

    @property
    def majority(self) -> float:
        """Accuracy in percent of always naming the most frequent class: what a network has to beat to be worth it."""
        return 100 * float(np.bincount(self.labels).max()) / len(self.labels)

    def logits(self, predict: Predict, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """A predict function's answers to all images, `[N, K]`, in the images' order.

        Raises:
            ModelError: they are not of this shape.
        """
        answered: list[NDArray[np.float32]] = []
        done = 0
        for batch, _ in self._images.batches(BATCH):
            logits = predict(batch)
            if logits.shape != (len(batch), self._classes):
                raise ModelError(f"{len(batch)} images were answered with logits {list(logits.shape)}: export again")
            answered.append(logits)
            done += len(batch)
            if progress is not None:
                progress(done, len(self._images))
        return np.concatenate(answered)

    def top1(self, logits: NDArray[np.float32]) -> Top1:
        """Score answers `[N, K]`."""
        correct = correct_answers(self.labels, logits)
        report = None if self.validated else 100 * float(correct[self.report].mean())
        return Top1(100 * float(correct[self.selection].mean()), report, 100 * float(correct.mean()))


def prepare_judge(
    split: ImageSplit,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    validated: bool = False,
    seed: int = 0,
    max_images: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Judge:
    """Read the images to judge on.

    Args:
        split: the validation images, or the test images.
        preprocessing: the network's own.
        classes: the K class names.
        validated: whether they are validation images.
        seed: cuts the halves, and draws the images where there are more than `max_images`.
        max_images: how many to use at most, evenly over the classes; None for all.
        skip_bad: leave unreadable ones out instead of raising.
        progress: told how many are read.

    Raises:
        DataError: fewer than 2 images.
        BadImagesError: images that can't be read.
    """
    if max_images is not None:
        if max_images < FEWEST_IMAGES:
            raise DataError(f"max_images must be at least {FEWEST_IMAGES}, not {max_images}: some of them decide")
        split = split.take(stratified_sample(split.labels, max_images, seed))
    if len(split) == 0:
        raise DataError("there are no test images to judge accuracy on: give data with a test split")
    images = prepare(split, preprocessing, skip_bad=skip_bad, progress=progress)
    return Judge(images, classes, seed, validated=validated)
