"""Asking the network and its file the same images before the file is anybody's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.splits import stratified_split
from mobilenets.errors import DataError
from mobilenets.evaluation.evaluate import Predict
from mobilenets.evaluation.metrics import top1_accuracy
from mobilenets.exporting.describe import Subject
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.golden_images import COUNT, choose_golden, made_images
from mobilenets.exporting.parity import Parity

BATCH = 64
MADE_IMAGES = 32

Progress = Callable[[str, int, int], None]
"""Told of `done` of `total` items of a piece of work named first."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Images to ask the network and its file.

    Attributes:
        what: the images in words, e.g. `360 test images of digits`.
        images: uint8 `[N, H, W, C]`, a batch at a time by position.
        labels: true class of each, `[N]`; None for made images.
        golden: positions of those that go into the file.
        notes: what the user should know of them, a sentence each.
        digest: of the data set whose images they are; empty for made images.
        decided: whether they are validation images, by all of which choices are made; none is left to report on.
    """

    what: str
    count: int
    batch: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    labels: NDArray[np.int64] | None
    golden: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    digest: str = ""
    decided: bool = False

    def ask(self, predict: Predict, what: str, progress: Progress) -> NDArray[np.float32]:
        """All answers to them, logits `[N, K]`."""
        logits = []
        for start in range(0, self.count, BATCH):
            positions = np.arange(start, min(start + BATCH, self.count), dtype=np.int64)
            logits.append(predict(self.batch(positions)))
            progress(what, int(positions[-1]) + 1, self.count)
        return np.concatenate(logits)

    def top1(self, logits: NDArray[np.float32]) -> float | None:
        """Accuracy of answers `[N, K]` in percent; None for made images."""
        return None if self.labels is None else top1_accuracy(self.labels, logits)


@dataclass(frozen=True, eq=False)
class Proof:
    """A translated network and what it answered: logits `[N, K]` of the network and of the file, in which runtime."""

    questions: Questions
    exported: Exported
    expected: NDArray[np.float32]
    actual: NDArray[np.float32]
    parity: Parity
    backend: str


def made_questions(subject: Subject) -> Questions:
    """Questions where there is no data."""
    images = made_images(subject.preprocessing, MADE_IMAGES)
    return Questions(
        what=f"{MADE_IMAGES} made images",
        count=MADE_IMAGES,
        batch=lambda positions: images[positions],
        labels=None,
        golden=np.arange(COUNT, dtype=np.int64),
        notes=("without --data it is proven on made images only, and its probabilities are not calibrated",),
    )


def split_questions(
    subject: Subject,
    dataset: Dataset,
    part: str,
    *,
    limit: int | None,
    skip_bad: bool,
    progress: Progress,
) -> Questions:
    """Questions from a data set's test or validation images.

    Args:
        subject: whose preprocessing they get.
        dataset: of the subject's classes.
        part: `test` or `validation`.
        limit: ask so many of them, the same share of each class; None for all.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of the images read.

    Raises:
        DataError: there are no such images, or `limit` is below 1.
        BadImagesError: images that can't be read.
    """
    split = dataset.test if part == "test" else dataset.validation
    if split is None:
        raise DataError(f"{dataset.name} has no {part} images")
    if limit is not None:
        split = split.take(_limited(split.labels, limit))
    prepared: PreparedImages = prepare(
        split,
        subject.preprocessing,
        skip_bad=skip_bad,
        progress=lambda done, total: progress(f"reading {part} images", done, total),
    )
    left_out = tuple(f"left out: {image.name}: {image.reason}" for image in prepared.skipped)
    return Questions(
        what=f"{len(prepared):,} {part} images of {dataset.name}",
        count=len(prepared),
        batch=prepared.batch,
        labels=prepared.labels,
        golden=choose_golden(prepared.labels),
        notes=(*dataset.notes, *left_out),
        digest=dataset.digest,
        decided=part == "validation",
    )


def _limited(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    if limit < 1:
        raise DataError(f"at least 1 image has to be asked, not {limit}")
    if limit >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    counts = np.bincount(labels)
    if limit < 2 * np.count_nonzero(counts) or counts[counts > 0].min() < 2:
        # Too few for a share of each class.
        return np.sort(np.random.default_rng(0).permutation(len(labels))[:limit]).astype(np.int64)
    return stratified_split(labels, test_fraction=limit / len(labels), seed=0)[1]
