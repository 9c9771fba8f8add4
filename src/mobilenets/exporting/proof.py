"""Asking the network and its file the same images before the file is anybody's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset, check_classes, load_dataset
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.splits import stratified_split
from mobilenets.errors import DataError
from mobilenets.evaluation.evaluate import Predict
from mobilenets.exporting.describe import Subject
from mobilenets.exporting.golden_images import COUNT, choose_golden, made_images

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
        digest: of the data set whose test images they are; empty for made images.
    """

    what: str
    count: int
    batch: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    labels: NDArray[np.int64] | None
    golden: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    digest: str = ""

    def ask(self, predict: Predict, what: str, progress: Progress) -> NDArray[np.float32]:
        """All answers to them, logits `[N, K]`."""
        logits = []
        for start in range(0, self.count, BATCH):
            positions = np.arange(start, min(start + BATCH, self.count), dtype=np.int64)
            logits.append(predict(self.batch(positions)))
            progress(what, int(positions[-1]) + 1, self.count)
        return np.concatenate(logits)


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
    data: str | Path | Dataset,
    *,
    limit: int | None,
    skip_bad: bool,
    data_root: Path | None,
    progress: Progress,
) -> Questions:
    """Questions from a data set's test split.

    Args:
        subject: whose classes and preprocessing they must have.
        data: as `load_dataset` takes it.
        limit: ask so many of them, the same share of each class; None for all.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        progress: told of the images read.

    Raises:
        DataError: the data can't be used, has other classes than the network, or `limit` is below 1.
    """
    dataset = load_dataset(data, data_root=data_root)
    check_classes(dataset, data, subject.classes)
    split = dataset.test
    if limit is not None:
        split = split.take(_limited(split.labels, limit))
    prepared: PreparedImages = prepare(
        split,
        subject.preprocessing,
        skip_bad=skip_bad,
        progress=lambda done, total: progress("reading test images", done, total),
    )
    left_out = tuple(f"left out: {image.name}: {image.reason}" for image in prepared.skipped)
    return Questions(
        what=f"{len(prepared):,} test images of {dataset.name}",
        count=len(prepared),
        batch=prepared.batch,
        labels=prepared.labels,
        golden=choose_golden(prepared.labels),
        notes=(*dataset.notes, *left_out),
        digest=dataset.digest,
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
