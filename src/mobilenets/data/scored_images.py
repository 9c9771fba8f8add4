"""The images a network is scored on: one split of a data set, or all that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import ALL, DIGEST, TEST, as_trained, unseen_images
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError
from mobilenets.formatting import printable
from mobilenets.image_record import ImageRecord
from mobilenets.progress import Update

_NAMED: Final = 5


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Images to score a network on, what its user should know of them, and the digest of their data set."""

    images: ImageSplit
    notes: tuple[str, ...]
    digest: str


def scored_images(
    dataset: Dataset,
    split: str,
    provenance: Mapping[str, str],
    record: ImageRecord | None,
    *,
    network: str,
    progress: Update | None = None,
) -> ScoredImages:
    """Choose the images to score a network on, without those that it was trained on.

    Args:
        dataset: the images, with the network's classes, validation images not cut.
        split: `test`, `validation`, `train` (those it was trained on, as far as they are here) or `all`: of every
            split, those that it was neither trained nor validated on.
        provenance: the network's.
        record: which images it was trained on; None where that is not known.
        network: what messages call it.
        progress: told of the images read.

    Raises:
        DataError: there are no such images.
    """
    if split == ALL:
        found = _all(dataset, provenance, record, network, progress)
    else:
        known, unknown = as_trained(dataset, provenance, record, parts=(split,), progress=progress)
        images = {TEST: known.test, "validation": known.validation, "train": known.train}[split]
        if images is None:
            why = unknown or "it has seen them all"
            raise DataError(f"{dataset.name} has no validation images for {network}: {why}")
        notes = known.notes
        if split == "train" and known.validation is not None:
            notes = (*notes, "the training images are those trained on, without the validation images")
        found = ScoredImages(images, notes, known.digest)
    if not len(found.images):
        raise DataError(f"{dataset.name} has no {split} images: split all scores all that are new to {network}")
    return ScoredImages(found.images, (*found.notes, *_missing(found.images, dataset.classes)), found.digest)


def _all(
    dataset: Dataset,
    provenance: Mapping[str, str],
    record: ImageRecord | None,
    network: str,
    progress: Update | None,
) -> ScoredImages:
    if dataset.shards is not None:
        raise DataError(f"{dataset.name} is shards, whose training images are streamed: score its test images")
    known, _ = as_trained(dataset, provenance, record, parts=(), progress=progress)
    parts = [part for part in (known.train, known.validation, known.test) if part is not None]
    notes = known.notes
    if record is None and provenance.get(DIGEST) == known.digest:
        parts, notes = [known.test], (*notes, "the images it was trained and validated on are not scored")
    images = ImageSplit(
        [source for part in parts for source in part.sources], np.concatenate([part.labels for part in parts])
    )
    if record is not None:
        total = len(images)
        images, note = unseen_images(images, record, progress)
        if not len(images):
            raise DataError(f"{network} has seen all {total:,} images of {dataset.name}: give images that it has not")
        notes = (*notes, *filter(None, (note,)))
    return ScoredImages(images, notes, known.digest)


def _missing(images: ImageSplit, classes: tuple[str, ...]) -> tuple[str, ...]:
    absent = np.setdiff1d(np.arange(len(classes)), images.labels)
    if not len(absent):
        return ()
    named = ", ".join(printable(classes[place]) for place in absent[:_NAMED])
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return (f"no images of {named}{more}: the other classes are scored, averages are over these",)
