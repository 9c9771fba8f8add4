"""Scoring files on the evaluation split, with the images that decide kept apart from those that don't."""

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
from mobilenets.exporting.confidence import halves
from mobilenets.preprocessing import Preprocessing

BATCH = 32
FEWEST_IMAGES = 2


class Judge:
    """The evaluation images, cut in two stratified halves; the same images for every file.

    Attributes:
        labels: true classes, `[N]`.
        selection: positions of the half that decides.
        report: positions of the other.
        left_out: unreadable images that were skipped on request, a sentence each.
    """

    def __init__(self, images: PreparedImages, classes: Sequence[str], seed: int) -> None:
        if len(images) < FEWEST_IMAGES:
            raise DataError(f"accuracy can't be judged on {len(images)} image: give data with a larger test split")
        self._images = images
        self._classes = len(classes)
        self.labels = images.labels
        self.left_out = tuple(f"left out: {image.name}: {image.reason}" for image in images.skipped)
        self.selection, self.report = halves(self.labels, seed)

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
        """Score answers `[N, K]`; one that is infinite or not a number is wrong, as a broken 8-bit network gives."""
        correct = (logits.argmax(axis=1) == self.labels) & np.isfinite(logits).all(axis=1)
        selection, report, whole = (
            100 * float(correct[part].mean()) for part in (self.selection, self.report, slice(None))
        )
        return Top1(selection, report, whole)


def prepare_judge(
    test: ImageSplit,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    seed: int = 0,
    max_images: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Judge:
    """Read the images to judge on.

    Args:
        test: the evaluation split.
        preprocessing: the network's own.
        classes: the K class names.
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
            raise DataError(f"max_images must be at least {FEWEST_IMAGES}, not {max_images}: half of them decide")
        test = test.take(stratified_sample(test.labels, max_images, seed))
    if len(test) == 0:
        raise DataError("there are no test images to judge accuracy on: give data with a test split")
    return Judge(prepare(test, preprocessing, skip_bad=skip_bad, progress=progress), classes, seed)
