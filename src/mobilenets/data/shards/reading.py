"""Reading shards, one after the other from their first byte to their last; webdataset groups what belongs together.

Nothing in a shard is ever decoded or unpickled: of every record an image and a label are taken as bytes, whatever else
it holds is left.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image
from webdataset.tariterators import group_by_keys

from mobilenets.data.shards.addresses import open_address
from mobilenets.data.shards.tar_files import tar_files
from mobilenets.deep_pixels import AS_STORED, DeepPixels
from mobilenets.errors import DataError, first_line
from mobilenets.image_folders import is_image_name
from mobilenets.images import MAX_PIXELS, open_image, read_size
from mobilenets.limits import parse_json
from mobilenets.quoting import printable

_LABELS: Final = ("cls", "json")
_LABEL_KEYS: Final = ("cls", "label", "class")
# Headers that each announce another header are read by Python's `tarfile` within each other.
_TAR_FAULTS: Final = (tarfile.TarError, ValueError, EOFError, zlib.error, RecursionError, OverflowError, TypeError)


@dataclass(frozen=True, slots=True)
class Record:
    """An image as it is stored, with its label as written; an `EncodedSource`.

    Attributes:
        name: of the shard, and within it.
        content: the encoded image.
        label: how the class is written.
        max_pixels: see `EncodedSource`.
    """

    name: str
    content: bytes
    label: str
    max_pixels: int = MAX_PIXELS

    @property
    def location(self) -> str:
        """See `EncodedSource`."""
        return self.name

    def encoded(self) -> bytes:
        """See `EncodedSource`."""
        return self.content

    @property
    def size(self) -> int:
        """See `ImageSource`."""
        return len(self.content)

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """See `ImageSource`."""
        return open_image(io.BytesIO(self.content), name=self.name, max_pixels=self.max_pixels, deep=deep)

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        return read_size(io.BytesIO(self.content), name=self.name, max_pixels=self.max_pixels)


def read_shard(address: str, max_pixels: int = MAX_PIXELS) -> Generator[Record]:
    """Yield the records of a shard in their order; stopping early is fine.

    Args:
        address: a path or URL.
        max_pixels: of how many pixels an image may be.

    Raises:
        DataError: it is not there, damaged, breaks off, or has a record without an image or a label.
    """
    try:
        with closing(open_address(address)) as stream:
            for sample in group_by_keys(tar_files(stream, _wanted, address)):
                yield _record(address, sample, max_pixels)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"shard {address} can't be read ({reason}): bring it back, or leave it out") from error
    except _TAR_FAULTS as error:
        reason = first_line(error.args[0] if error.args and isinstance(error.args[0], Exception) else error)
        raise DataError(f"shard {address} is damaged ({reason}): get it anew, or leave it out") from error


def _wanted(name: str) -> bool:
    return is_image_name(name) or name.lower().rpartition(".")[2] in _LABELS


def _record(address: str, sample: dict[str, Any], max_pixels: int) -> Record:
    name = f"{address}/{printable(sample['__key__'])}"
    # `0001.jpg` before `0001.left.jpg`
    images = sorted(
        (key for key in sample if key[0] != "_" and is_image_name(f"x.{key}")), key=lambda key: (len(key), key)
    )
    if not images:
        raise DataError(f"{name} has no image: the shard is damaged, or not of JPEG or PNG files")
    label = _label(name, sample)
    return Record(f"{name}.{images[0]}", sample[images[0]], label, max_pixels)


def _label(name: str, sample: dict[str, Any]) -> str:
    """The class as the record writes it: the text of its .cls, or the value of a known key in its .json."""
    value: object = None
    try:
        if "cls" in sample:
            value = sample["cls"].decode().strip()
        elif "json" in sample:
            content = parse_json(sample["json"])
            fields = content if isinstance(content, dict) else {"label": content}
            value = next((fields[key] for key in _LABEL_KEYS if key in fields), None)
    except ValueError as error:  # also what is no UTF-8
        raise DataError(f"the label of {name} is no text ({error}): write the shards anew") from error
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        keys = ", ".join(_LABEL_KEYS)
        raise DataError(
            f"{name} has no label, a .cls with its class or a .json with one of {keys}: the shard is damaged, or not "
            "made for classification"
        )
    return str(value)
