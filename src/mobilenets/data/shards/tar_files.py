"""The files of a tar archive that is read from its first byte to its last, none of which is believed blindly.

A header of 512 bytes may declare 8 GiB, of a file or of a further header, and a compressed archive may grow a
thousandfold: what is declared is compared with what an image or label can be before a byte of it is read.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, Literal, Protocol, Self, cast

from mobilenets.data.sources import MAX_FILE_BYTES

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
