"""A data set decoded for one input size, its test images under seal until everything is chosen.

They are decoded early, so that an unreadable one is known early, but handed out for scoring only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, default_memory_limit, prepare
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.evaluation.evaluation_set import SealedTestSet
from mobilenets.evaluation.images import labelled_set
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, counted

if TYPE_CHECKING:
    from mobilenets.data.shards.shard_set import ShardSet
    from mobilenets.data.shards.streaming import ShardImages


@dataclass(frozen=True)
class Splits:
    """A data set decoded for one input size; the test images are under seal.

    Where training images are streamed from shards, `train` is a sample of them.
    """

    dataset: Dataset
    train: PreparedImages
    validation: PreparedImages | None
    test: SealedTestSet
    preprocessing: Preprocessing
    streamed: ShardImages | None = None

    @property
    def trained_on(self) -> PreparedImages | ShardImages:
        """All training images."""
        return self.train if self.streamed is None else self.streamed


def prepare_splits(
    dataset: Dataset, preprocessing: Preprocessing, *, skip_bad: bool, progress: Progress, memory_share: int = 1
) -> Splits:
    """Decode all splits for `preprocessing`, reporting what the user should know of the data.

    Args:
        dataset: the images.
        preprocessing: how to arrange them.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of progress, notes and images left out.
        memory_share: among how many such calls the memory for pixels is to be shared.

    Raises:
        BadImagesError: images can't be read and `skip_bad` is off; it lists those of all splits.
    """
    prepared: dict[str, PreparedImages] = {}
    bad: list[BadImage] = []
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in parts.items():
        if split is None:
            continue

        try:
            limit = default_memory_limit() // memory_share
            prepared[name] = prepare(
                split,
                preprocessing,
                skip_bad=skip_bad,
                progress=counted(progress.update, f"reading {name} images"),
                memory_limit=limit,
                every_class=name != "validation",
            )
        except BadImagesError as error:
            bad += error.bad
    if bad:
        raise BadImagesError(bad)
    announce(dataset.notes, [image for part in prepared.values() for image in part.skipped], progress)
    test = SealedTestSet(labelled_set(prepared["test"], dataset, "test"))
    validation = prepared.get("validation") or None  # where none of them can be read, there are none
    streamed = None if dataset.shards is None else stream(dataset.shards, preprocessing, skip_bad, progress)
    return Splits(dataset, prepared["training"], validation, test, preprocessing, streamed)


def stream(shards: ShardSet, preprocessing: Preprocessing, skip_bad: bool, progress: Progress) -> ShardImages:
    """Stream images to train on; those that are left out are told as they are met."""
    from mobilenets.data.shards.streaming import ShardImages  # loads webdataset

    def tell(image: BadImage) -> None:
        progress.message(f"left out: {image}")

    return ShardImages(shards, preprocessing, skip_bad=skip_bad, told=tell)


def announce(notes: Sequence[str], left_out: Sequence[BadImage], progress: Progress) -> None:
    """Tell what the user should know about how the data was read, and every image that was left out."""
    for note in notes:
        progress.message(f"note: {note}")
    if left_out:
        progress.message(f"{len(left_out)} image{'s' * (len(left_out) > 1)} left out:")
    for image in left_out:
        progress.message(f"  {image}")
