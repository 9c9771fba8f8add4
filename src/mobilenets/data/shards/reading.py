"""Reading shards, one after the other from their first byte to their last, through webdataset's own readers.

They open files, `http` through curl, `gs` through gsutil and `s3` through the command of AWS, take tar files apart and
group what belongs together. Nothing in a shard is ever decoded by them or unpickled: of every record an image and a
label are taken as bytes, whatever else it holds is left.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tarfile
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from PIL import Image
from webdataset.gopen import gopen, gopen_schemes
from webdataset.tariterators import group_by_keys, tar_file_expander

from mobilenets.data.shards.location import is_remote
from mobilenets.deep_pixels import AS_STORED, DeepPixels
from mobilenets.errors import DataError
from mobilenets.image_folders import is_image_name
from mobilenets.images import MAX_PIXELS, open_image, read_size
from mobilenets.limits import parse_json

_LABELS: Final = ("cls", "json")
_LABEL_KEYS: Final = ("cls", "label", "class")
_TAR_FAULTS: Final = (tarfile.TarError, ValueError, EOFError, zlib.error)
_CURL: Final = {
    6: "there is no such host",
    7: "nobody answers there",
    18: "the transfer broke off",
    22: "it is not there, or may not be read",
    28: "it took too long",
    56: "the transfer broke off",
    127: "the command that reads such addresses is not installed",
}


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
        stream, whole = open_address(address), False
        try:
            files = tar_file_expander([{"url": address, "stream": stream}], select_files=_wanted)
            for sample in group_by_keys(files):
                yield _record(address, sample, max_pixels)
            whole = True
        except _TAR_FAULTS:
            stream.close()  # of a command that failed, this says why there is no more
            raise
        finally:
            # A command tells on closing whether it came to its end; one that is left in the middle may complain.
            with contextlib.nullcontext() if whole else contextlib.suppress(OSError):
                stream.close()
    except OSError as error:
        raise DataError(f"shard {address} can't be read ({_why(error)}): bring it back, or leave it out") from error
    except _TAR_FAULTS as error:
        reason = str(error.args[0] if error.args else error).partition(" @ ")[0]
        raise DataError(f"shard {address} is damaged ({reason}): get it anew, or leave it out") from error


def open_address(address: str) -> IO[bytes]:
    """Open a path or URL for reading.

    Raises:
        OSError: it can't be opened; of URLs this may show only on reading.
    """
    if not is_remote(address):
        return Path(address).open("rb")
    if address.startswith("s3://") and "s3" not in gopen_schemes:
        address = f"pipe:aws s3 cp {shlex.quote(address)} -"  # how webdataset reads S3
    stream: IO[bytes] = gopen(address, "rb")
    return stream


def read_whole(address: str) -> bytes | None:
    """Return what lies at an address; None if nothing does, or it can't be read."""
    try:
        with closing(open_address(address)) as stream:
            return stream.read()
    except OSError:
        return None


def _wanted(name: str) -> bool:
    return is_image_name(name) or name.lower().rpartition(".")[2] in _LABELS


def _record(address: str, sample: dict[str, Any], max_pixels: int) -> Record:
    name = f"{address}/{sample['__key__']}"
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


def _why(error: OSError) -> str:
    """A missing file says it itself; a command that failed says it by its exit code."""
    if error.strerror:
        return error.strerror.lower()
    found = re.search(r"exit (\d+)", str(error))
    code = int(found.group(1)) if found else 0
    return _CURL.get(code, f"its reader gave up with code {code}" if found else str(error))
