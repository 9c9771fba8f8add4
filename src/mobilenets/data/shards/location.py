"""Which names of data mean shards, and the addresses they stand for.

Light on purpose: asked for every data set, it must not load webdataset, which brings PyTorch if that is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from mobilenets.data.shards.index import FORMAT, INDEX, MAX_SHARDS
from mobilenets.errors import DataError
from mobilenets.image_folders import is_junk
from mobilenets.limits import read_bytes

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
    """Tar files in a folder that holds nothing but files; beside folders of images they are someone's downloads."""
    entries = [path for path in sorted(folder.iterdir()) if not is_junk(path.name)]
    if any(path.is_dir() for path in entries):
        return []
    return [path for path in entries if path.name.lower().endswith(_TARS)]
