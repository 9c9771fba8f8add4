"""Reading shards, one after the other from their first byte to their last; webdataset groups what belongs together.

Nothing in a shard is ever decoded or unpickled: of every record an image and a label are taken as bytes, whatever else
it holds is left.

No tar archive is believed blindly: a header of 512 bytes may declare 8 GiB, of a file or of a further header, and a
compressed archive may grow a thousandfold. What is declared is compared with what an image or label can be before a
byte of it is read.

Addresses are opened without a shell and without waiting for ever: `http` and `https` are read here, `gs` by gsutil and
`s3` by the command of AWS. Addresses come from users; names within an index come from whoever wrote it, and only plain
ones are taken (`index.check_name`).
"""

from __future__ import annotations

import contextlib
import io
import re
import select
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, Protocol, Self, cast

from PIL import Image
from webdataset.tariterators import group_by_keys

from mobilenets.data.shards.index import is_remote
from mobilenets.data.sources import MAX_FILE_BYTES
from mobilenets.errors import DataError, first_line
from mobilenets.formatting import printable
from mobilenets.image_folders import is_image_name
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import MAX_PIXELS, open_image, read_size
from mobilenets.limits import MAX_JSON_BYTES, open_regular, parse_json
from mobilenets.transfer import IDLE_SECONDS, TransferError, open_url

MAX_OTHER_BYTES: Final = 4 * 2**30
"""Of a file that is passed over."""
MAX_NAME_BYTES: Final = 2**20
"""Of a header that holds a long name, or attributes."""
MAX_GROWTH: Final = 200
"""Times a compressed archive's own size that it may unpack to; photographs hardly grow."""

_NAMES: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_HEADERS: Final = (*_NAMES, tarfile.GNUTYPE_LONGLINK)
_GZIP: Final = b"\x1f\x8b"
_META: Final = re.compile(r"__[^/]*__($|/)")  # what WebDataset keeps of an archive's own


class Stream(Protocol):
    """What is needed of a stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""

    def close(self) -> None:
        """End it."""


def tar_files(stream: Stream, wanted: Callable[[str], bool], address: str) -> Iterator[dict[str, Any]]:
    """Yield name and content of the wanted files, as webdataset's `group_by_keys` takes them.

    Args:
        stream: a tar archive, plain or packed by gzip.
        wanted: which names to read.
        address: of the archive, for the records.

    Raises:
        ValueError: a file or header is larger than anything of its kind is.
        tarfile.TarError, EOFError, zlib.error: it is no tar archive, damaged or cut.
        OSError: the stream's own.
    """
    counted = _Counted(stream)
    packed = counted.begins_with(_GZIP)
    mode: Literal["r|gz", "r|"] = "r|gz" if packed else "r|"
    with tarfile.open(fileobj=cast(IO[bytes], counted), mode=mode, tarinfo=_Member) as archive:
        for member in archive:
            if packed and archive.offset > MAX_GROWTH * (counted.bytes + 2**18):
                raise ValueError(f"it unpacks to more than {MAX_GROWTH} times its size")
            archive.members = []  # type: ignore[attr-defined]  # it keeps all it has seen
            if not member.isreg() or _META.match(member.name) or not wanted(member.name):
                continue
            if member.issparse() or not 0 <= member.size <= MAX_FILE_BYTES:
                raise _too_large(member, MAX_FILE_BYTES)
            file = archive.extractfile(member)
            if file is not None:
                yield {"fname": member.name, "data": file.read(), "__url__": address}


class _Member(tarfile.TarInfo):
    """A header, looked at before what follows it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        most = MAX_NAME_BYTES if member.type in _HEADERS else MAX_OTHER_BYTES
        if not 0 <= member.size <= most:
            raise _too_large(member, most)
        return member


class _Counted:
    """A stream that says how much of it was read, and looks at its beginning without taking it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._head = b""
        self.bytes = 0

    def begins_with(self, mark: bytes) -> bool:
        while len(self._head) < len(mark) and (more := self._stream.read(len(mark) - len(self._head))):
            self._head += more
        return self._head == mark

    def read(self, size: int) -> bytes:
        content, self._head = (self._head or self._stream.read(size)), b""
        self.bytes += len(content)
        return content


def _too_large(member: tarfile.TarInfo, most: int) -> ValueError:
    name = member.name[:60].encode("utf-8", "backslashreplace").decode()
    return ValueError(f"{name!r} is declared to have {member.size:,} bytes, more than the {most:,} allowed")


_COMMANDS: Final = {"gs://": ("gsutil", "cat"), "s3://": ("aws", "s3", "cp")}


def open_address(address: str) -> Stream:
    """Open a path or URL for reading.

    Raises:
        OSError: it can't be opened, or is no regular file; of commands this may show only on reading.
    """
    if not is_remote(address):
        return open_regular(address)
    for scheme, command in _COMMANDS.items():
        if address.startswith(scheme):
            return _Command([*command, address, *(["-"] if scheme == "s3://" else [])])
    return open_url(address)


def read_whole(address: str, *, most: int = MAX_JSON_BYTES) -> bytes | None:
    """Return what lies at an address; None if nothing does.

    Raises:
        DataError: something does but can't be read, or is larger than `most`; or a server does not answer.
    """
    content = bytearray()
    try:
        with closing(open_address(address)) as stream:
            while len(content) <= most and (more := stream.read(2**20)):
                content += more
    except (FileNotFoundError, NotADirectoryError, _CommandError):
        return None
    except OSError as error:
        if isinstance(error, TransferError) and error.absent:
            return None
        raise DataError(f"{address} can't be read ({error.strerror or error}): check it") from error
    if len(content) > most:
        raise DataError(f"{address} has more than the {most:,} bytes allowed: it is no index of shards")
    return bytes(content)


class _CommandError(OSError):
    """A command that ended without having read everything."""


class _Command:
    """The output of a command that reads an address; it is started without a shell."""

    def __init__(self, command: list[str]) -> None:
        self._name = command[0]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as error:
            raise _CommandError(0, f"{self._name}, which reads such addresses, is not installed") from error

    def read(self, size: int, /) -> bytes:
        """See `Stream`."""
        output: IO[bytes] = self._process.stdout  # type: ignore[assignment]  # a pipe, as asked for
        # Windows can't wait for a pipe with a limit.
        if sys.platform != "win32" and not select.select([output], [], [], 4 * IDLE_SECONDS)[0]:
            self._end()
            raise TransferError(f"nothing came from {self._name} for {4 * IDLE_SECONDS:g} s")
        content = output.read(size)
        if not content and (code := self._process.wait()) != 0:
            raise _CommandError(0, f"{self._name} gave up with code {code}")
        return content

    def close(self) -> None:
        """See `Stream`."""
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


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
