"""Validation images: the part of the training images that choices are made on, so that none is made on the test images.

The cut depends on the data and the share alone, not on the recipe's seed: all networks of a comparison are scored on
the same images, and a later command finds the same cut again from what the run folder remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset
from mobilenets.data.splits import Cut, validation_split, with_digests
from mobilenets.errors import DataError
from mobilenets.image_record import ImageRecord
from mobilenets.progress import Update

if TYPE_CHECKING:
    from mobilenets.data.shards.shard_set import ShardSet

DIGEST: Final = "data_digest"
FRACTION: Final = "validation_fraction"
SEED: Final = "validation_seed"
"""What a run's provenance says of its images. A run of data that came with validation images has the fraction `own`."""
OWN: Final = "own"
RULE: Final = "validation_rule"
CONTENT: Final = "content"
"""How they were cut; runs of earlier versions, and of packaged data, say nothing and had an exact share drawn."""
_NAMED: Final = 5


def cut_validation(dataset: Dataset, fraction: float, progress: Update | None = None) -> Dataset:
    """Cut validation images from the training images; the test images stay as they are.

    Data that comes with validation images keeps those, whatever the fraction.

    Args:
        dataset: the images.
        fraction: share of each class's training images; 0 cuts nothing.
        progress: told of the images read.

    Returns:
        The data set with `validation` and `cut`, what became of small classes among its notes. Its digest stays that of
        the data as read.

    Raises:
        DataError: the fraction is not from 0 to below 1.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"validation_fraction must be from 0 to below 1, not {fraction}: 0.1 takes a tenth")
    if dataset.validation is not None or fraction == 0:
        return dataset
    cut = Cut(fraction, by_content=not dataset.packaged and dataset.shards is None)
    if dataset.shards is not None:
        return _cut_shards(dataset, dataset.shards, cut)
    train = with_digests(dataset.train, progress) if cut.by_content else dataset.train
    kept, taken = validation_split(train.labels, cut, train.digests)
    if len(taken) == 0:
        few = f"no validation images: no class has enough training images to spare {fraction:.0%} of them"
        return replace(dataset, notes=(*dataset.notes, few))
    about = "about " if cut.by_content else ""
    said = f"{about}{fraction:.0%} of each class's training images held out for validation ({len(taken):,} images)"
    return replace(
        dataset,
        train=train.take(kept),
        validation=train.take(taken),
        cut=cut,
        notes=(*dataset.notes, said, *_left_without(dataset, taken)),
    )


def _cut_shards(dataset: Dataset, shards: ShardSet, cut: Cut) -> Dataset:
    """Hold whole shards out: each is a fair sample, and none has to be read twice."""
    if len(shards.shards) < 2:
        return replace(dataset, notes=(*dataset.notes, "no validation images: there is one training shard only"))
    rest, taken = shards.held_out(cut.fraction, cut.seed)
    count = len(shards.shards) - len(rest.shards)
    said = f"{count} of {len(shards.shards)} training shards held out for validation ({len(taken):,} images)"
    return replace(dataset, shards=rest, train=rest.sample(), validation=taken, cut=cut, notes=(*dataset.notes, said))


def _left_without(dataset: Dataset, taken: NDArray[np.int64]) -> tuple[str, ...]:
    """Name the classes that had no image to spare."""
    classes = len(dataset.classes)
    had = np.bincount(dataset.train.labels, minlength=classes)
    given = np.bincount(dataset.train.labels[taken], minlength=classes)
    bare = [f"{dataset.classes[place]} ({had[place]})" for place in np.flatnonzero((had > 0) & (given == 0))]
    if not bare:
        return ()
    more = f" and {len(bare) - _NAMED} more" if len(bare) > _NAMED else ""
    return (f"no validation images of {', '.join(bare[:_NAMED])}{more}: too few training images to spare one",)


def validation_record(dataset: Dataset) -> dict[str, str]:
    """What a run has to remember, in its provenance, for its validation images to be found again."""
    if dataset.cut is not None:
        rule = {RULE: CONTENT} if dataset.cut.by_content else {}
        return {FRACTION: repr(dataset.cut.fraction), SEED: str(dataset.cut.seed), **rule}
    return {FRACTION: OWN} if dataset.validation is not None else {}


def cut_again(
    dataset: Dataset, provenance: Mapping[str, str], record: ImageRecord | None = None, progress: Update | None = None
) -> tuple[Dataset, str | None]:
    """Cut a data set as it was cut when a network was trained on it; validation images of its own need no cutting.

    A cut by content is found again in images that have changed since, if it is known which the network was trained on:
    what it was validated on stays, and of the images added some join.

    Args:
        dataset: the images, not cut.
        provenance: the network's.
        record: which images it was trained on; None where that is not known.
        progress: told of the images read.

    Returns:
        The data set with its validation images, and None; or as it was, and in words why these can't be known.

    Raises:
        DataError: the provenance names a fraction or seed that can't be.
    """
    if dataset.validation is not None:
        return dataset, None
    if FRACTION not in provenance:
        return dataset, "the network does not say which images it was validated on"
    by_content = provenance.get(RULE) == CONTENT
    same = provenance.get(DIGEST) == dataset.digest
    if not same and (record is None or not by_content or dataset.packaged or dataset.shards is not None):
        return dataset, f"{dataset.name} is not, or no longer, what the network was trained on"
    try:
        cut = Cut(float(provenance[FRACTION]), int(provenance[SEED]), by_content)
    except (KeyError, ValueError) as error:
        raise DataError(f"the network's provenance names a validation split that can't be: {error}") from error
    if dataset.shards is not None:
        return replace(_cut_shards(dataset, dataset.shards, cut), notes=dataset.notes), None
    train = with_digests(dataset.train, progress) if by_content else dataset.train
    kept, taken = validation_split(train.labels, cut, train.digests)
    validation = train.take(taken) if len(taken) else None
    return replace(dataset, train=train.take(kept), validation=validation, cut=cut), None
