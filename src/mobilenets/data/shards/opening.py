"""From what a user calls data to shards: their index, the images to stream, and those that are held.

Third-party shards are read once from end to end to count them, and the count is kept for the next time.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from mobilenets.data.shards.index import (
    SPLITS,
    Location,
    ShardEntry,
    ShardIndex,
    Split,
    digest_of,
    is_remote,
    locate,
    parse_index,
)
from mobilenets.data.shards.reading import read_shard, read_whole
from mobilenets.data.shards.shard_set import Shard, ShardSet
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError
from mobilenets.files import write_text_atomically
from mobilenets.formatting import decodable
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import read_bytes, require_regular
from mobilenets.machine import user_cache
from mobilenets.progress import Update

_SCORED: Final = (("test",), ("val", "valid"))


def counted_index(
    folder: str, addresses: Sequence[str], *, seed: int, test_fraction: float, progress: Update | None
) -> tuple[ShardIndex, tuple[str, ...]]:
    """Return the index of foreign shards and what a user should know about it.

    Shards called `test...`, or else `val...`, are scored. Where there are none, whole shards are held out.

    Args:
        folder: where they lie.
        addresses: all of them.
        seed: chooses the shards held out.
        test_fraction: which part of them.
        progress: told of the counting.

    Raises:
        DataError: a shard that can't be read, one class only, or nothing to train or to score on.
    """
    kept = [_cache(folder, addresses, beside) for beside in (True, False)]  # which misses shards that are not there
    splits, notes = _splits(addresses, seed, test_fraction)
    for path in kept:
        if path is not None and (index := _kept(path, len(addresses))) is not None:
            return _with_splits(index, addresses, splits), notes
    index = _count(addresses, progress)
    target = next(path for path in kept if path is not None)
    write_text_atomically(target, index.to_json())
    return _with_splits(index, addresses, splits), (*notes, f"the shards were counted; the count is kept in {target}")


def _kept(path: Path, shards: int) -> ShardIndex | None:
    """A count made before; None where there is none, or none of so many shards."""
    if not path.is_file():
        return None
    try:
        index = parse_index(read_bytes(path), str(path), named=False)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}): remove it") from error
    return index if index is not None and len(index.shards) == shards else None


def _count(addresses: Sequence[str], progress: Update | None) -> ShardIndex:
    """Read all shards: how many images, which labels."""
    entries: list[ShardEntry] = []
    labels: Counter[str] = Counter()
    for place, address in enumerate(addresses):
        if progress is not None:
            progress("counting shards", place, len(addresses))
        digest = hashlib.sha256()
        images = size = 0
        for record in read_shard(address):
            labels[record.label] += 1
            images, size = images + 1, size + record.size
            digest.update(f"{record.name.removeprefix(address)}\0{record.size}\0{record.label}\0".encode())
        if not images:
            raise DataError(f"shard {address} is empty: leave it out")
        entries.append(ShardEntry(address, "train", images, _size(address) or size, digest.hexdigest()))
    if progress is not None:
        progress("counting shards", len(addresses), len(addresses))
    if len(labels) < 2:
        raise DataError(
            f"the shards have one class only ({next(iter(labels))}): add some with images of something else"
        )
    # Numbers in their order, `10` after `2`; names as folders are sorted.
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    classes = tuple(sorted(labels, key=int) if numbers else sorted(labels))
    return ShardIndex(classes, classes, tuple(entries), {"train": tuple(labels[name] for name in classes)})


def _splits(addresses: Sequence[str], seed: int, test_fraction: float) -> tuple[list[Split], tuple[str, ...]]:
    """Which shards are trained on, and which are scored."""
    names = [address.rpartition("/")[2].lower() for address in addresses]
    for beginnings in _SCORED:
        scored = [name.startswith(beginnings) for name in names]
        if any(scored):
            break
    notes: tuple[str, ...] = ()
    if not any(scored):
        if len(addresses) < 2:
            raise DataError(
                f"{addresses[0]} is a single shard: give shards to train on and shards called test... or val... to "
                "score on, e.g. '{train-{000..099},val-{00..04}}.tar'"
            )
        count = min(max(1, round(test_fraction * len(names))), len(names) - 1)
        taken = set(np.random.default_rng(seed).permutation(len(names))[:count].tolist())
        scored = [place in taken for place in range(len(names))]
        notes = (f"{count} of {len(names)} shards held out for testing, chosen with seed {seed}",)
    if all(scored):
        raise DataError(f"{addresses[0]} and the others are called test or val shards: there is nothing to train on")
    return ["test" if one else "train" for one in scored], notes


def _with_splits(index: ShardIndex, addresses: Sequence[str], splits: Sequence[Split]) -> ShardIndex:
    """The count is of all shards, wherever they were then; where they are and what each is for is said now."""
    entries = [
        replace(entry, name=address, split=split)
        for entry, address, split in zip(index.shards, addresses, splits, strict=True)
    ]
    return replace(index, shards=tuple(sorted(entries, key=lambda entry: entry.split == "test")), class_counts={})


def _cache(folder: str, addresses: Sequence[str], beside: bool) -> Path | None:
    """Where a count is kept: beside the shards if that can be written, else in the user's cache folder.

    The name tells these shards, at these sizes, from others.
    """
    told = "".join(f"{address.removeprefix(folder)}\0{_size(address)}\0" for address in addresses)
    if not beside:
        name = hashlib.sha256(f"{folder}\0{told}".encode()).hexdigest()[:16]
        return user_cache() / "mobilenets" / "shards" / f"{name}.json"
    if is_remote(folder) or not os.access(folder, os.W_OK):
        return None
    return Path(folder) / f".count-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def _size(address: str) -> int | None:
    """Size of a local shard in bytes."""
    if is_remote(address):
        return None
    try:
        return Path(address).stat().st_size
    except OSError as error:
        raise DataError(f"shard {address} can't be read ({error.strerror}): bring it back, or leave it out") from error


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
    progress: Update | None = None,
) -> OpenedShards:
    """Find shards, by their index or by counting them once; copy the test images and a sample of the others.

    Args:
        data: a folder, a pattern such as `shards/train-{000..099}.tar`, or the URL of either.
        seed: chooses the shards held out, where someone else's come without test shards.
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
    location: Location, seed: int, test_fraction: float, progress: Update | None
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
