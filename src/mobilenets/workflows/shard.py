"""`shard`: write any data set as WebDataset shards, mixed; each shard is written whole, and a stopped call goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.decoding import find_bit_depth
from mobilenets.data.shards.index import (
    INDEX,
    JOURNAL,
    SPLITS,
    Origin,
    ShardEntry,
    ShardIndex,
    Split,
    names_shards,
    parse_index,
)
from mobilenets.data.shards.shard_file import Finished, Journal, ShardFile
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import BadImage, BadImagesError, DataError, RunError
from mobilenets.files import check_writable, make_folder, outside, remove_leftovers, write_text_atomically
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import check_seed, read_bytes
from mobilenets.progress import Progress, Silent, Update

SHARD_BYTES: Final = 32 * 2**20
SHARD_IMAGES: Final = 10_000
MIN_SHARDS: Final = 8
"""Shards are made small enough that several are mixed in training and some can be held out."""


def shard(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    images_per_shard: int | None = None,
    image_size: int | None = None,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    progress: Progress | None = None,
) -> ShardIndex:
    """Write images into the folder `out` as WebDataset shards with an index, for training to stream.

    Every image is decoded once, to know that it can be. The same data and options give the same bytes. Called again
    after a stop, it goes on: shards that are finished stay.

    Args:
        data: as `load_dataset` takes it.
        out: folder for `train-000000.tar`, ..., `test-000000.tar`, ... and `index.json`.
        images_per_shard: images of a shard; default: what makes about 32 MiB.
        image_size: reduce larger images to this shorter side in pixels; default: copy all bytes as they are.
        exclude: a list of images to leave out, as `doctor --fix` writes it.
        skip_bad: leave unreadable images out instead of refusing.
        data_root: where `cifar10` is looked for and downloaded to.
        max_pixels: the most pixels an image may have; see `load_dataset`.
        seed: of the order in which images are mixed, so that each shard is a fair sample.
        progress: receives progress.

    Raises:
        DataError: data that can't be used.
        BadImagesError: images that can't be read, all of them; shards without such are written.
        RunError: the folder holds something else, or can't be written, e.g. a full disk.
    """
    if not isinstance(data, Dataset) and names_shards(data):
        raise DataError(f"{data} is shards already; give the images they were made of")
    for name, value in (("images_per_shard", images_per_shard), ("image_size", image_size)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, not {value}")
    if fault := check_seed(seed):
        raise DataError(fault)
    folder = outside(data, Path(out))
    check_writable(folder)
    update = Silent().update if progress is None else progress.update
    dataset = load_dataset(data, data_root=data_root, max_pixels=max_pixels, exclude=exclude)
    count = images_per_shard or _fitting(dataset.train)
    origin = Origin(dataset.name, dataset.digest, seed, count, image_size)
    make_folder(folder)
    if (done := _finished(folder, origin)) is not None:
        return done
    remove_leftovers(folder)
    classes = len(dataset.classes)
    parts = zip(SPLITS, (dataset.train, dataset.test), strict=True)
    files = [file for split, images in parts for file in _shards(split, images, count, seed, classes)]
    with Journal(folder, origin) as journal:
        deep = AS_STORED if image_size is None else find_bit_depth(dataset.train.sources)[0]
        _write_missing(folder, files, journal, image_size, skip_bad, deep, update)
        index = _index(dataset, origin, [journal.finished[file.name] for file in files])
        write_text_atomically(folder / INDEX, index.to_json())
        journal.remove()
    return index


def _finished(folder: Path, origin: Origin) -> ShardIndex | None:
    """The index, if all is done; of other data it is refused."""
    path = folder / INDEX
    if not path.exists():
        unknown = sorted(entry.name for entry in folder.glob("*.tar"))
        if unknown and not (folder / JOURNAL).exists():
            raise RunError(f"{folder} holds {unknown[0]}, of which nothing is known; choose another folder")
        return None
    try:
        index = parse_index(read_bytes(path), str(path))
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror or error}); choose another folder") from error
    if index is None or index.origin != origin:
        raise RunError(f"{path} is of other images or options; choose another folder")
    lost = [entry.name for entry in index.shards if not _is_whole(folder / entry.name, entry)]
    if lost:
        raise RunError(f"{folder / lost[0]} is missing or damaged; remove {path} and the shards, and shard again")
    return index


def _fitting(split: ImageSplit) -> int:
    """How many images make a good shard, by their sizes as stored."""
    mean = sum(source.size for source in split.sources) / max(1, len(split))
    return max(1, min(SHARD_IMAGES, int(SHARD_BYTES // (mean + 2048)), -(-len(split) // MIN_SHARDS)))


def _shards(split: Split, images: ImageSplit, count: int, seed: int, classes: int) -> Iterator[ShardFile]:
    order = np.random.default_rng(seed).permutation(len(images))
    for number, start in enumerate(range(0, len(images), count)):
        yield ShardFile(f"{split}-{number:06d}.tar", split, images.take(order[start : start + count]), classes)


def _write_missing(
    folder: Path,
    files: Sequence[ShardFile],
    journal: Journal,
    image_size: int | None,
    skip_bad: bool,
    deep: DeepPixels,
    update: Update,
) -> None:
    total = sum(len(file.images) for file in files)
    bad: list[BadImage] = []
    done = 0
    for file in files:

        def count(images: int, before: int = done) -> None:
            update("writing shards", before + images, total)

        known = journal.finished.get(file.name)
        if known is None or not _is_whole(folder / file.name, known.entry):
            try:
                journal.add(file.write(folder, image_size=image_size, skip_bad=skip_bad, progress=count, deep=deep))
            except BadImagesError as error:
                bad += error.bad  # the other shards are written all the same, so that all such images are known
        done += len(file.images)
    if bad:
        raise BadImagesError(bad)


def _is_whole(path: Path, entry: ShardEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.bytes


def _index(dataset: Dataset, origin: Origin, finished: Sequence[Finished]) -> ShardIndex:
    counts: dict[Split, tuple[int, ...]] = {}
    for split in SPLITS:
        rows = [shard.class_counts for shard in finished if shard.entry.split == split]
        counts[split] = tuple(map(sum, zip(*rows, strict=True)))
        if 0 in counts[split]:
            lost = dataset.classes[counts[split].index(0)]
            raise DataError(f"no {split} image of class {lost} can be read: add readable ones to it")
    labels = tuple(str(place) for place in range(len(dataset.classes)))
    return ShardIndex(dataset.classes, labels, tuple(shard.entry for shard in finished), counts, origin)
