"""A trained network's images, found again and read: those that select, and the test images under seal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset, check_classes, load_dataset
from mobilenets.data.held_out import as_trained
from mobilenets.data.loader import prepare
from mobilenets.data.splits import stratified_split
from mobilenets.errors import DataError
from mobilenets.evaluation.evaluation_set import (
    MIN_SELECTING,
    EvaluationSet,
    SealedTestSet,
    labelled_set,
    ledger_folder,
)
from mobilenets.image_record import ImageRecord
from mobilenets.images import MAX_PIXELS
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, Update


class ScoredNetwork(Protocol):
    """What has to be known of a network to find its images: a saved network, or what an exporter works on."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in output order."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How its images are arranged."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """How it came about; says how its data was split."""

    @property
    def images(self) -> ImageRecord | None:
        """Which images it was trained on; None where that is not known."""


def load_evaluation_data(
    network: ScoredNetwork,
    data: str | Path | Dataset,
    *,
    exclude: str | Path | None = None,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Dataset:
    """Load a network's images, and find its validation images again, to choose by.

    Images that were left out of its training are left out here too, and of the validation and test images those it was
    trained on.

    Args:
        network: its provenance says how they were cut.
        data: as `load_dataset` takes it.
        exclude: a list of further images to leave out.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: receives what takes long in finding them.

    Returns:
        The data set. Where its validation images can't be known it has none: the test images have to select then, and
        the last of its notes says so.

    Raises:
        DataError: the data can't be used, has other classes than the network, or no test image it has not seen.
    """
    loaded = load_dataset(data, data_root=data_root, max_pixels=max_pixels, exclude=exclude, progress=progress)
    check_classes(loaded, data, network.classes)
    dataset, why = as_trained(
        loaded, network.provenance, network.images, progress=None if progress is None else progress.update
    )
    if dataset.validation is not None and len(dataset.validation) < MIN_SELECTING:
        dataset, why = replace(dataset, validation=None), f"{dataset.name} has too few validation images"
    if dataset.validation is not None:
        return dataset
    why = why or f"{dataset.name} has none"
    note = f"test images decide, not validation images: {why}; figures of what they choose are a little too good"
    return replace(dataset, notes=(*dataset.notes, note))


def evaluation_set(
    network: ScoredNetwork,
    dataset: Dataset,
    split: str,
    *,
    max_images: int | None = None,
    least: int = 1,
    skip_bad: bool = False,
    seed: int = 0,
    progress: Update,
) -> EvaluationSet:
    """Read a data set's test or validation images, as a network takes them.

    Args:
        network: whose preprocessing they get.
        dataset: of the network's classes.
        split: `test` or `validation`.
        max_images: use so many of them at most, the same share of each class; None for all.
        least: how many there must be.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        seed: cuts halves where they select. It does not draw the images: all verbs use the same ones.
        progress: told of the images read.

    Raises:
        DataError: there are no such images, or fewer than `least`.
        BadImagesError: images that can't be read.
    """
    images = dataset.test if split == "test" else dataset.validation
    if images is None or len(images) == 0:
        raise DataError(f"{dataset.name} has no {split} images to measure accuracy on")
    if max_images is not None:
        if max_images < least:
            raise DataError(f"max_images must be at least {least}, not {max_images}")
        images = images.take(_share_of_each_class(images.labels, max_images))
    prepared = prepare(
        images,
        network.preprocessing,
        skip_bad=skip_bad,
        progress=lambda done, total: progress(f"reading {split} images", done, total),
    )
    if len(prepared) < least:
        raise DataError(f"accuracy can't be measured on {len(prepared)} image: give data with more {split} images")
    return labelled_set(prepared, dataset, split, seed=seed, class_count=len(network.classes))


def selection_and_test(
    network: ScoredNetwork,
    dataset: Dataset,
    run: object,
    command: str,
    *,
    max_images: int | None,
    skip_bad: bool,
    progress: Update,
) -> tuple[EvaluationSet, Callable[[], EvaluationSet] | None]:
    """The images that select, and what opens the test images when all is chosen; None where these have to select.

    Args:
        network: the network.
        dataset: as `load_evaluation_data` gives it.
        run: what the network was loaded from; the ledger of a run folder records the reading.
        command: the verb that scores it.
        max_images: use so many images of each split at most; None for all.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of the images read.

    Raises:
        DataError: `max_images` is below 1.
        BadImagesError: images that can't be read.
        RunError: the test images select, and their reading can't be recorded.
    """

    def of(split: str) -> EvaluationSet:
        return evaluation_set(network, dataset, split, max_images=max_images, skip_bad=skip_bad, progress=progress)

    sealed = SealedTestSet(of("test"))

    def open_test() -> EvaluationSet:
        return sealed.open(ledger_folder(run), command)

    return (open_test(), None) if dataset.validation is None else (of("validation"), open_test)


def _share_of_each_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions of `count` images, the same share of each class, ascending."""
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    counts = np.bincount(labels)
    if count < 2 * np.count_nonzero(counts) or counts[counts > 0].min() < 2:
        # Too few for a share of each class.
        return np.sort(np.random.default_rng(0).permutation(len(labels))[:count]).astype(np.int64)
    return stratified_split(labels, test_fraction=count / len(labels), seed=0)[1]
