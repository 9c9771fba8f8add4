"""Which images choices are made on: a run's validation images; the test images are under seal until all is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from mobilenets.data.datasets import Dataset, check_classes, load_dataset
from mobilenets.data.held_out import as_trained
from mobilenets.evaluation.ledger import record_for
from mobilenets.exporters.describe import Subject
from mobilenets.exporters.verify import Questions, split_questions
from mobilenets.images import MAX_PIXELS
from mobilenets.progress import Update

FEWEST_IMAGES: Final = 2


def load_deciding(
    subject: Subject,
    data: str | Path | Dataset,
    *,
    exclude: str | Path | None = None,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Update | None = None,
) -> Dataset:
    """Load a network's images, and find its validation images again, to choose by.

    Images that were left out of its training are left out here too, and of the validation and test images those it was
    trained on.

    Args:
        subject: the network; its provenance says how they were cut.
        data: as `load_dataset` takes it.
        exclude: a list of further images to leave out.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: told of what takes long in finding them.

    Returns:
        The data set. Where its validation images can't be known it has none: the test images have to decide then, and
        the last of its notes says so.

    Raises:
        DataError: the data can't be used, has other classes than the network, or no test image it has not seen.
    """
    loaded = load_dataset(data, data_root=data_root, max_pixels=max_pixels, exclude=exclude, progress=progress)
    check_classes(loaded, data, subject.classes)
    dataset, why = as_trained(loaded, subject.provenance, subject.images, progress=progress)
    if dataset.validation is not None and len(dataset.validation) < FEWEST_IMAGES:
        dataset, why = replace(dataset, validation=None), f"{dataset.name} has too few validation images"
    if dataset.validation is not None:
        return dataset
    why = why or f"{dataset.name} has none"
    note = f"test images decide, not validation images: {why}; figures of what they choose are a little too good"
    return replace(dataset, notes=(*dataset.notes, note))


class SealedTest:
    """Test images, decoded early so that an unreadable one is known early, but handed out when all is chosen only.

    Args:
        questions: the images.
        run: of the network they are asked for; a run folder's ledger gets a line when they are handed out.
        command: the verb that asks.
    """

    def __init__(self, questions: Questions, run: object, command: str) -> None:
        self._questions = questions
        self._run = run
        self._command = command

    def open(self) -> Questions:
        """Record the reading and hand the images out.

        Raises:
            RunError: the reading can't be recorded.
        """
        record_for(self._run, self._command, self._questions.count, self._questions.digest)
        return self._questions


def deciding_questions(
    subject: Subject,
    dataset: Dataset,
    run: object,
    command: str,
    *,
    limit: int | None,
    skip_bad: bool,
    progress: Update,
) -> tuple[Questions, SealedTest | None]:
    """The questions that decide, and the test images under seal; None where the test images have to decide.

    Args:
        subject: the network.
        dataset: as `load_deciding` gives it.
        run: what the network was loaded from.
        command: the verb that asks.
        limit: ask so many images of each split; None for all.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of the images read.

    Raises:
        DataError: `limit` is below 1.
        BadImagesError: images that can't be read.
        RunError: the test images decide, and their reading can't be recorded.
    """

    def of(part: str) -> Questions:
        return split_questions(subject, dataset, part, limit=limit, skip_bad=skip_bad, progress=progress)

    sealed = SealedTest(of("test"), run, command)
    return (sealed.open(), None) if dataset.validation is None else (of("validation"), sealed)
