"""Images held out of training: validation images cut and found again, and scored images cleared of those seen.

Validation images are the part of the training images that choices are made on, so that none is made on the test images.
The cut depends on the data and the share alone, not on the recipe's seed: all networks of a comparison are scored on
the same images, and a later command finds the same cut again from what the run folder remembers.

Images a network was trained on are left out of scoring by their content, and counted.
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
from collections.abc import Collection

from mobilenets.data.datasets import without
from mobilenets.data.shards.index import is_remote
from mobilenets.data.sources import ImageSplit
from mobilenets.data.splits import image_digest, image_digests
from mobilenets.image_record import Digests, digest_array, digest_of

DIGEST: Final = "data_digest"


FRACTION: Final = "validation_fraction"


SEED: Final = "validation_seed"
"""What a run's provenance says of its images. A run of data that came with validation images has the fraction `own`."""


OWN: Final = "own"


RULE: Final = "validation_rule"


CONTENT: Final = "content"
"""How they were cut; runs of earlier versions, and of packaged data, say nothing and had an exact share drawn."""


TEST: Final = "test"


VALIDATION: Final = "validation"


ALL: Final = "all"


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


def as_trained(
    dataset: Dataset,
    provenance: Mapping[str, str],
    record: ImageRecord | None,
    *,
    parts: Collection[str] = (TEST, VALIDATION),
    progress: Update | None = None,
) -> tuple[Dataset, str | None]:
    """A data set as it was when a network was trained on it, with nothing in its scored parts the network has seen.

    Images that were left out of training are left out again. The validation images are cut again. Then the test images
    are left out that the network was trained or validated on, and the validation images that it was trained on: in a
    folder that has grown or is split otherwise, and where a copy of a training image lies among them.

    Args:
        dataset: the images, validation images not cut.
        provenance: the network's.
        record: which images it has seen; None where that is not known, and the data set's digest alone can tell.
        parts: which of `train`, `validation` and `test` are to be scored; the others are left as they are.
        progress: told of the images read.

    Returns:
        The data set, and in words why its validation images can't be known; None where they are. Its notes say what was
        left out. Packaged data that the network was trained on keep their published test images whole.

    Raises:
        DataError: none of the test images is left.
    """
    if record is not None:
        dataset = _excluded_again(dataset, record)
    # Where the test images alone are scored, the others need not be read to be cut.
    cut = set(parts) != {TEST}
    dataset, why = cut_again(dataset, provenance, record, progress) if cut else (dataset, None)
    same = provenance.get(DIGEST) == dataset.digest
    if record is None:
        return (dataset if same or DIGEST not in provenance else _with_warning(dataset)), why
    if same and dataset.packaged:
        return dataset, why
    if TEST in parts:
        test, note = _unseen(dataset.test, record, TEST, progress)
        if not len(test):
            raise DataError(
                f"{dataset.name} has no test images for this network: {note}; give images that it has not seen"
            )
        dataset = replace(dataset, test=test, notes=(*dataset.notes, *filter(None, (note,))))
    if VALIDATION in parts and dataset.validation is not None:
        validation, note = _unseen(dataset.validation, record, VALIDATION, progress)
        dataset = replace(dataset, validation=validation or None, notes=(*dataset.notes, *filter(None, (note,))))
    return dataset, why


def without_copies(dataset: Dataset, progress: Update | None = None) -> Dataset:
    """A data set to train on: its test images less copies of training or validation images, these less copies too.

    What a package delivers stays as published, and shards are not read for it.

    Args:
        dataset: the images, validation images cut.
        progress: told of the images read.

    Raises:
        DataError: none of the test images is left.
    """
    if dataset.packaged or dataset.shards is not None:
        return dataset
    train = with_digests(dataset.train, progress)
    validation = None if dataset.validation is None else with_digests(dataset.validation, progress)
    record = ImageRecord(_digests(train, None), *(() if validation is None else (_digests(validation, None),)))
    notes = []
    test, note = _unseen(dataset.test, record, TEST, progress)
    if note:
        copies = len(dataset.test) - len(test)
        notes.append(f"{copies:,} of {len(dataset.test):,} test images are copies of images trained on: not scored")
    if not len(test):
        raise DataError(f"{dataset.name} has no test images of its own: {notes[0]}; give other test images")
    if validation is not None:
        own, note = _unseen(validation, record, VALIDATION, progress)
        if note:
            copies = len(validation) - len(own)
            notes.append(f"{copies:,} of {len(validation):,} validation images are copies of training images: left out")
        validation = own or None
    return replace(dataset, train=train, validation=validation, test=test, notes=(*dataset.notes, *notes))


def without_seen(
    dataset: Dataset, record: ImageRecord, progress: Update | None = None, *, who: str = "the network"
) -> Dataset:
    """A data set to train on from given weights: its test and validation images less those that shaped the weights.

    Args:
        dataset: the images, validation images cut.
        record: which images the weights were trained on.
        progress: told of the images read.
        who: what messages call the network that the weights are of.

    Raises:
        DataError: none of the test images is left.
    """
    test, note = _unseen(dataset.test, record, TEST, progress, who)
    if not len(test):
        raise DataError(f"{dataset.name} has no test images for these weights: {note}; give images they have not seen")
    notes = [note]
    validation = dataset.validation
    if validation is not None:
        validation, note = _unseen(validation, record, VALIDATION, progress, who)
        notes.append(note)
    return replace(dataset, test=test, validation=validation or None, notes=(*dataset.notes, *filter(None, notes)))


def unseen_images(images: ImageSplit, record: ImageRecord, progress: Update | None = None) -> tuple[ImageSplit, str]:
    """Of any images those a network was neither trained nor validated on, and a note on the others; empty for none."""
    return _unseen(images, record, ALL, progress)


def image_record(dataset: Dataset, begun_with: ImageRecord | None, progress: Update | None = None) -> ImageRecord:
    """What a network that is trained on a data set has to remember of its images.

    Images streamed from shards are read once for it, where they lie on this machine; of others the network does not
    know, and only the data set's digest tells whether they are the same.

    Args:
        dataset: the images, validation images cut.
        begun_with: of the weights it begins with; None for fresh ones.
        progress: told of the images read.
    """
    none = np.empty(0, np.uint64)
    trained = _all_digests(dataset, progress)
    validation = dataset.validation
    return ImageRecord(
        trained=np.unique(trained),
        validated=none if validation is None else np.unique(_digests(validation, progress)),
        inherited=none if begun_with is None else begun_with.all_trained,
        excluded=dataset.excluded,
    )


def also_trained_on(record: ImageRecord, images: ImageSplit) -> ImageRecord:
    """What a network has seen that was trained on further images."""
    return replace(record, inherited=np.union1d(record.inherited, _digests(images, None)))


def _all_digests(dataset: Dataset, progress: Update | None) -> Digests:
    if dataset.shards is None:
        return _digests(dataset.train, progress)
    from mobilenets.data.shards.shard_set import whole_shard  # loads webdataset

    shards = dataset.shards.shards
    if any(is_remote(shard.address) for shard in shards):
        return _digests(dataset.train, progress)
    return digest_array(digest_of(record.content) for shard in shards for record in whole_shard(shard))


def _digests(split: ImageSplit, progress: Update | None) -> Digests:
    return image_digests(split.sources, progress) if split.digests is None else split.digests


def _excluded_again(dataset: Dataset, record: ImageRecord) -> Dataset:
    """Leave out what training left out: images of the same name and content, so that other data lose none."""
    parts = [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]
    names = {
        source.name
        for split in parts
        for source in split.sources
        if source.name in record.excluded and record.leaves_out(source.name, image_digest(source))
    }
    return without(dataset, names, "they were in training") if names else dataset


def _unseen(
    split: ImageSplit, record: ImageRecord, part: str, progress: Update | None, who: str = "the network"
) -> tuple[ImageSplit, str]:
    known = with_digests(split, progress)
    assert known.digests is not None
    trained = record.was_trained_on(known.digests)
    validated = np.zeros(len(known), np.bool_)
    if part != VALIDATION:
        validated = record.was_validated_on(known.digests) & ~trained
    counts = {"trained": int(trained.sum()), "validated": int(validated.sum())}
    if not any(counts.values()):
        return known, ""
    seen = " and ".join(f"{count:,} it was {verb} on" for verb, count in counts.items() if count)
    what = "images" if part == ALL else f"{part} images"
    note = f"of {len(known):,} {what}, {who} has seen {seen}: not scored"
    kept: NDArray[np.int64] = np.flatnonzero(~(trained | validated)).astype(np.int64)
    return known.take(kept), note


def _with_warning(dataset: Dataset) -> Dataset:
    note = (
        f"{dataset.name} is not, or no longer, what the network was trained on, and which images that were is not "
        "known (it was saved by an earlier version): some of these may be among them, and their figures too good"
    )
    return replace(dataset, notes=(*dataset.notes, note))
