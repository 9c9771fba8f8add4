"""Scoring on images a network has not seen: those it was trained on are left out, by content, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset, without
from mobilenets.data.shards.location import is_remote
from mobilenets.data.sources import ImageSplit
from mobilenets.data.splits import image_digest, image_digests, with_digests
from mobilenets.data.validation import DIGEST, cut_again
from mobilenets.errors import DataError
from mobilenets.image_record import Digests, ImageRecord, digest_array, digest_of
from mobilenets.progress import Update
from mobilenets.quoting import printable

TEST: Final = "test"
VALIDATION: Final = "validation"
ALL: Final = "all"


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


# The images a network is scored on: one split of a data set, or all that it has not seen.


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
