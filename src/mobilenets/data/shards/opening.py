"""From what a user calls data to shards: their index, the images to stream, and those that are held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenets.data.shards.addresses import read_whole
from mobilenets.data.shards.counting import counted_index
from mobilenets.data.shards.index import SPLITS, ShardEntry, ShardIndex, digest_of, parse_index
from mobilenets.data.shards.location import Location, is_remote, locate
from mobilenets.data.shards.shard_set import Progress, Shard, ShardSet
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import require_regular
from mobilenets.quoting import decodable


@dataclass(frozen=True, eq=False)
class OpenedShards:
    """A data set in shards.

    Attributes:
        name: of the folder.
        classes: class names.
        train: the shards to stream.
        sample: some of the training images, any of which can be had at once.
        test: the images to score on, likewise.
        notes: what a user should know.
        digest: see `digest_of`.
    """

    name: str
    classes: tuple[str, ...]
    train: ShardSet
    sample: ImageSplit
    test: ImageSplit
    notes: tuple[str, ...]
    digest: str


def open_shards(
    data: str | Path,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> OpenedShards:
    """Find shards, by their index or by counting them once; copy the test images and a sample of the others.

    Args:
        data: a folder, a pattern such as `shards/train-{000..099}.tar`, or the URL of either.
        seed: chooses the shards held out, where somebody else's come without test shards.
        test_fraction: which part of them.
        max_pixels: of how many pixels an image may be.
        progress: told of what takes long.

    Raises:
        DataError: anything that keeps the shards from being used; the message names the shard.
    """
    location = locate(data)
    index, notes = _index(location, seed, test_fraction, progress)
    for entry in index.shards:
        _check_size(location, entry, counted=index.origin is None)
    labels = {label: place for place, label in enumerate(index.labels)}
    train, test = (
        ShardSet(
            tuple(
                Shard(_address(location, entry), entry.images, entry.bytes, max_pixels) for entry in index.part(split)
            ),
            labels,
            index.class_counts.get(split, ()),
        )
        for split in SPLITS
    )
    if not train.shards or not test.shards:
        missing = "train" if not train.shards else "test"
        raise DataError(f"{data} names no {missing} shards: give the folder, or a pattern of training shards")
    sample = train.sample()
    told = f"{len(train):,} training images are streamed from {len(train.shards):,} shards"
    if len(sample) < len(train):
        told += f"; what needs some of them at once, such as the training accuracy, takes {len(sample):,}"
    name = decodable(location.folder.rpartition("/")[2] or location.folder)
    digest = digest_of(index.classes, index.shards)
    return OpenedShards(name, index.classes, train, sample, test.load(progress), (*notes, told), digest)


def _index(
    location: Location, seed: int, test_fraction: float, progress: Progress | None
) -> tuple[ShardIndex, tuple[str, ...]]:
    content = read_whole(location.index)
    index = None if content is None else parse_index(content, location.index)
    if index is not None and location.addresses is None:
        return index, ()
    if location.addresses is None:
        raise DataError(
            f"{location.folder} has no {location.index.rpartition('/')[2]} of shards: name the shards, e.g. "
            f"'{location.folder}/train-{{000000..000099}}.tar'"
        )
    if index is not None and all(address.startswith(location.folder + "/") for address in location.addresses):
        return _named(index, location, location.addresses), ()
    return counted_index(location.folder, location.addresses, seed=seed, test_fraction=test_fraction, progress=progress)


def _named(index: ShardIndex, location: Location, addresses: Sequence[str]) -> ShardIndex:
    """Of an index the training shards that were named; test shards are all taken, named or not."""
    names = {address.removeprefix(location.folder + "/") for address in addresses}
    unknown = sorted(names - {entry.name for entry in index.shards})
    if unknown:
        known = f"{index.shards[0].name} to {index.part('train')[-1].name}"
        raise DataError(f"{location.index} knows no shard {unknown[0]}; it has {known}")
    kept = tuple(entry for entry in index.shards if entry.split == "test" or entry.name in names)
    return ShardIndex(index.classes, index.labels, kept, index.class_counts, index.origin)


def _address(location: Location, entry: ShardEntry) -> str:
    # Names in an index are checked to be relative; those of counted shards are the addresses they were named by.
    whole = is_remote(entry.name) or entry.name in (location.addresses or ())
    return entry.name if whole else f"{location.folder}/{entry.name}"


def _check_size(location: Location, entry: ShardEntry, *, counted: bool) -> None:
    """See at once that local shards are there and whole; those of a network show it when they are read."""
    address = _address(location, entry)
    if counted or is_remote(address):
        return
    try:
        require_regular(address)
        size = Path(address).stat().st_size
    except OSError as error:
        raise DataError(
            f"shard {address} can't be read ({error.strerror or error}): bring it back, or shard the images again"
        ) from error
    if size != entry.bytes:
        raise DataError(
            f"shard {address} has {size:,} bytes, not {entry.bytes:,} as its index says: it was changed or not copied "
            "to its end; get it anew"
        )
