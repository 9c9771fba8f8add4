"""Which names of data mean shards, the addresses they stand for, and the index that lies beside shards.

`index.json` has the classes, and of each shard how many images and bytes it holds: so training knows an epoch's length,
enters it anywhere and notices a shard that is not whole, without reading a byte of the images. Nothing here loads
webdataset, which brings PyTorch if that is installed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from mobilenets.errors import DataError
from mobilenets.image_folders import is_junk
from mobilenets.limits import check_json, read_bytes
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


JOURNAL: Final = "index.part.jsonl"
"""Where a writer notes the shards it has finished; gone once the index is written."""


_REMOTE: Final = ("http://", "https://", "s3://", "gs://")


_PACKAGED: Final = ("digits", "cifar10")


_RANGE: Final = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


_TARS: Final = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Location:
    """Where shards are.

    Attributes:
        folder: what all addresses begin with: a path, or a URL without its last slash.
        addresses: paths or URLs, one a shard; None for all that the folder's index names.
    """

    folder: str
    addresses: tuple[str, ...] | None

    @property
    def index(self) -> str:
        """Address of the index, if there is one."""
        return f"{self.folder}/{INDEX}"


def is_remote(address: str) -> bool:
    """Whether an address is read over a network."""
    return address.startswith(_REMOTE)


def names_shards(data: str | Path) -> bool:
    """Whether `data` means shards: an address, a pattern or name of tar files, or a folder of them."""
    text = str(data)
    if is_remote(text) or text.lower().endswith(_TARS):
        return True
    if not text.strip() or data in _PACKAGED:
        return False
    try:
        folder = Path(data).expanduser()
        return folder.is_dir() and (_has_index(folder) or (folder / JOURNAL).is_file() or bool(_tars(folder)))
    except (OSError, RuntimeError, ValueError):  # whoever opens it as a folder says what is wrong with it
        return False


def locate(data: str | Path) -> Location:
    """Return where the shards that `data` names are; `{000..099}` stands for all numbers between.

    Raises:
        DataError: a pattern that can't be read, no shard, or a folder that is not sharded to its end.
    """
    import braceexpand

    text = str(data)
    if not is_remote(text) and not text.lower().endswith(_TARS):
        folder = Path(data).expanduser()
        _refuse_unfinished(folder)
        found = None if _has_index(folder) else tuple(str(path) for path in _tars(folder))
        return Location(str(folder), found)
    if is_remote(text) and not text.lower().endswith(_TARS):
        return Location(text.removesuffix(f"/{INDEX}").rstrip("/"), None)
    _refuse_endless(text)
    try:
        expanded = braceexpand.braceexpand(text if is_remote(text) else _with_folder(text))
        addresses = tuple(islice(expanded, MAX_SHARDS + 1))
    except ValueError as error:
        raise DataError(f"{text}: its braces do not match; write e.g. 'train-{{000000..000099}}.tar'") from error
    if len(addresses) > MAX_SHARDS:
        raise _too_many(text)
    if len(set(addresses)) < len(addresses):
        raise DataError(f"{text} names a shard twice")
    folder_name = addresses[0].rpartition("/")[0]
    if not is_remote(text):
        _refuse_unfinished(Path(folder_name))
    return Location(folder_name, addresses)


def _refuse_endless(text: str) -> None:
    """Refuse a range of numbers that alone stands for too many shards: all of one are made at once."""
    for first, last in _RANGE.findall(text):
        if max(len(first), len(last)) > 18 or abs(int(last) - int(first)) >= MAX_SHARDS:
            raise _too_many(text)


def _too_many(text: str) -> DataError:
    return DataError(f"{text[:200]} stands for more than {MAX_SHARDS:,} shards: check its braces")


def _refuse_unfinished(folder: Path) -> None:
    if (folder / JOURNAL).is_file():
        raise DataError(f"{folder} is not sharded to its end: give the same 'mobilenets shard' again to finish it")


def _with_folder(text: str) -> str:
    path = str(Path(text).expanduser())
    return path if "/" in path else f"./{path}"


def _has_index(folder: Path) -> bool:
    try:
        return FORMAT.encode() in read_bytes(folder / INDEX)
    except OSError:
        return False


def _tars(folder: Path) -> list[Path]:
    """Tar files in a folder that holds nothing but files; beside folders of images they are other downloads."""
    entries = [path for path in sorted(folder.iterdir()) if not is_junk(path.name)]
    if any(path.is_dir() for path in entries):
        return []
    return [path for path in entries if path.name.lower().endswith(_TARS)]
