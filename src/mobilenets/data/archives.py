"""Read images out of a zip without unpacking it."""

from __future__ import annotations

import io
import lzma
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mobilenets.data.layout import ImageTree, Parts, is_image_name, is_junk
from mobilenets.data.sources import ImageSource
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.preprocessing import open_image, read_size

MAX_MEMBER_BYTES: Final = 256 * 2**20
"""How large one image in a zip may be when unpacked. No photograph is, but a zip of a megabyte can claim terabytes."""

_ENCRYPTED: Final = 0x1  # bit 0 of a member's flags
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_READ_FAULTS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError)


class ZipArchive:
    """A zip file that several threads read members of.

    `zipfile` counts its open members without a lock, so two threads can close the file under each other's hands.
    Members are therefore read one at a time, whole; decoding, which is what takes long, happens outside.

    Raises:
        DataError: a file that can't be read as a zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise DataError(f"{path} is no readable zip ({error}): it is damaged or incomplete, get it anew") from error
        except OSError as error:
            raise DataError(f"{path} can't be opened ({error.strerror or error}): check the file") from error

    def members(self) -> list[zipfile.ZipInfo]:
        """Return what the zip holds; of members with the same name the last, which is the one unpacking leaves."""
        return list(self._zip.NameToInfo.values())

    def read(self, member: str) -> bytes:
        """Return one member's bytes, checked against its checksum.

        Raises:
            BadImagesError: it is too large or damaged.
        """
        try:
            size = self._zip.getinfo(member).file_size
            if size > MAX_MEMBER_BYTES:
                limit = f"more than {MAX_MEMBER_BYTES // 2**20} MiB allowed"
                raise self.bad_image(member, f"too large: {size // 2**20:,} MiB unpacked, {limit}")
            with self._lock:
                return self._zip.read(member)
        except _READ_FAULTS as error:
            raise self.bad_image(member, f"damaged in the zip: {error}") from error

    def full_name(self, member: str) -> str:
        """Return how messages name a member: as if the zip were a folder."""
        return f"{self.path}/{member}"

    def bad_image(self, member: str, reason: str) -> BadImagesError:
        """Return the error that says a member can't be read."""
        return BadImagesError([BadImage(self.full_name(member), reason)])


@dataclass(frozen=True, slots=True, eq=False)
class MemberSource:
    """An image in a zip; `name` is the member's, with forward slashes."""

    archive: ZipArchive
    member: str
    name: str
    size: int

    def open(self) -> Image.Image:
        """See `ImageSource`."""
        return open_image(io.BytesIO(self.archive.read(self.member)), name=self.archive.full_name(self.member))

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        return read_size(io.BytesIO(self.archive.read(self.member)), name=self.archive.full_name(self.member))


def read_zip(path: Path) -> ImageTree:
    """Return the images in a zip. Nothing is unpacked, so names such as `../x.jpg` do no harm.

    Raises:
        DataError: a zip that is damaged, encrypted, or packed by a method Python has no reader for.
    """
    archive = ZipArchive(path)
    files: list[tuple[Parts, ImageSource]] = []
    folders: set[Parts] = set()
    ignored = 0
    for info in archive.members():
        # Some Windows programs write backslashes, against the format's rules.
        parts = tuple(part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        if any(is_junk(part) for part in parts):
            continue
        is_folder = info.filename.endswith(("/", "\\"))
        folders.update(parts[:depth] for depth in range(1, len(parts) + is_folder))
        if is_folder:
            continue
        if not is_image_name(info.filename):
            ignored += 1
            continue
        _check_readable(path, info)
        files.append((parts, MemberSource(archive, info.filename, "/".join(parts), info.file_size)))
    return ImageTree(str(path), files, frozenset(folders), ignored)


def _check_readable(path: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{path} is encrypted ({info.filename}): unpack it with its password and give the folder")
    if info.compress_type not in _METHODS:
        method = f"method {info.compress_type}"
        raise DataError(f"{path} is packed by {method}, which can't be read here: unpack it and give the folder")
