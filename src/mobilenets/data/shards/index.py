"""What `index.json` beside shards says: the classes, and of each shard how many images and bytes it holds.

It is what lets training know an epoch's length, enter it anywhere and notice a shard that is not whole, without reading
a byte of the images.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from mobilenets.errors import DataError
from mobilenets.limits import check_json
from mobilenets.result import Result

INDEX: Final = "index.json"
FORMAT: Final = "mobilenets shards"
VERSION: Final = 1
MAX_SHARDS: Final = 10**6
MAX_IMAGES: Final = 10**9
"""Of a shard, and of a class: a number beyond it was never counted."""

Split = Literal["train", "test"]
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*")
SPLITS: Final[tuple[Split, ...]] = ("train", "test")


@dataclass(frozen=True)
class ShardEntry:
    """One shard.

    Attributes:
        name: its file name, or for shards that someone else wrote its whole address.
        split: what its images are for.
        images: how many it holds.
        bytes: its size; of shards read over a network the sum of what they hold.
        digest: SHA-256 over names, sizes and labels of its images, as hex digits.
    """

    name: str
    split: Split
    images: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class Origin:
    """What shards were made of, so that a writer that was stopped goes on with the same and nothing else.

    Attributes:
        data: the data set's name.
        digest: its digest.
        seed: of the order in which images were mixed.
        images_per_shard: how many a full shard holds.
        image_size: the shorter side that larger images were reduced to; None where all bytes are the originals'.
    """

    data: str
    digest: str
    seed: int
    images_per_shard: int
    image_size: int | None


@dataclass(frozen=True, repr=False)
class ShardIndex(Result):
    """All shards of a data set.

    Attributes:
        format: marks the file as ours.
        version: of the format.
        classes: class names.
        labels: how each class is written in the shards, in the same order.
        shards: training shards first.
        class_counts: of each split, how many images each class has.
        origin: what they were made of; None for shards that someone else wrote.
    """

    format: str = field(default=FORMAT, kw_only=True)  # first in the file, where the next reader looks
    version: int = field(default=VERSION, kw_only=True)
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    class_counts: dict[Split, tuple[int, ...]]
    origin: Origin | None = None

    def part(self, split: Split) -> tuple[ShardEntry, ...]:
        """The shards of one split."""
        return tuple(entry for entry in self.shards if entry.split == split)

    def images(self, split: Split) -> int:
        """How many images a split has."""
        return sum(entry.images for entry in self.part(split))

    def to_json(self) -> str:
        """The file's text."""
        return TypeAdapter(ShardIndex).dump_json(self, indent=1).decode() + "\n"

    def to_dict(self) -> dict[str, Any]:
        """See `Result`."""
        return asdict(self)

    def _headline(self) -> str:
        images = f"{self.images('train'):,} training and {self.images('test'):,} test images"
        return f"{len(self.shards):,} shards: {images} of {len(self.classes):,} classes"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [asdict(entry) for entry in self.shards]


def parse_index(content: bytes, name: str, *, named: bool = True) -> ShardIndex | None:
    """Read an index; None if the file is someone else's of the same name.

    Args:
        content: of the file.
        name: what messages call it.
        named: whether it says where its shards are; a count of shards says only what was counted.

    Raises:
        DataError: it is ours, but damaged or of a later version, or a shard's name leads out of its folder.
    """
    if FORMAT.encode() not in content:
        return None
    try:
        index = TypeAdapter(ShardIndex).validate_json(check_json(content))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "its text"
        raise DataError(f"{name} is damaged ({where}: {fault['msg'].lower()}): shard the images again") from error
    except ValueError as error:
        raise DataError(f"{name} is damaged ({error}): shard the images again") from error
    if index.version != VERSION:
        raise DataError(f"{name} is of version {index.version}, known is {VERSION}: update mobilenets")
    whole = (
        len(index.labels) == len(index.classes) > 1
        and all(len(counts) == len(index.classes) for counts in index.class_counts.values())
        and all(0 <= count <= MAX_IMAGES for counts in index.class_counts.values() for count in counts)
        and len(index.shards) <= MAX_SHARDS
        and all(0 < entry.images <= MAX_IMAGES and entry.bytes > 0 for entry in index.shards)
    )
    if not whole:
        raise DataError(f"{name} is damaged (its counts do not fit its classes): shard the images again")
    if len(set(index.labels)) < len(index.labels):
        raise DataError(f"{name} is damaged (it names a label twice): shard the images again")
    for entry in index.shards if named else ():
        check_name(entry.name, name)
    return index


def check_name(name: str, index: str) -> None:
    """Refuse a shard's name unless it can only mean a file below the index's own folder or address.

    Raises:
        DataError: it is empty, absolute, has a scheme, `..`, or letters that a shell, a pattern or an address gives a
            meaning.
    """
    if len(name) <= 255 and all(_PART.fullmatch(part) for part in name.split("/")):
        return
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    raise DataError(
        f"{index} names a shard {shown!a}: a name must be of letters, digits and _.+=@- below the index's own "
        "folder; shard the images again"
    )


def digest_of(classes: Iterable[str], entries: Iterable[ShardEntry]) -> str:
    """SHA-256 over classes and shards, as 64 hex digits: what makes them the same images to a run."""
    digest = hashlib.sha256("\0".join((*classes, "")).encode())
    for entry in entries:
        # Of the address only the file's name: shards that were moved are the same.
        name = entry.name.rpartition("/")[2]
        digest.update(f"\0{name}\0{entry.split}\0{entry.images}\0{entry.bytes}\0{entry.digest}".encode())
    return digest.hexdigest()
