"""Scoring files on validation images or, where there are none, on test images of which one half decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mobilenets.compression.calibration import stratified_sample
from mobilenets.compression.results import Top1
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError, ModelError
from mobilenets.evaluation.evaluate import Predict
from mobilenets.evaluation.metrics import correct_answers
from mobilenets.exporting.confidence import halves
from mobilenets.preprocessing import Preprocessing

BATCH = 32
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
