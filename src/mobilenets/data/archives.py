"""Read images out of a zip without unpacking it."""

from __future__ import annotations

import io
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mobilenets.data.layout import ImageTree, Parts
from mobilenets.data.sources import ImageSource
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.formatting import decodable, printable
from mobilenets.image_folders import is_image_name, is_junk
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import MAX_PIXELS, open_image, read_size
from mobilenets.limits import MAX_DEPTH, require_regular

MAX_MEMBER_BYTES: Final = 256 * 2**20
"""How large one image in a zip may be when unpacked. No photograph is, but a zip of a megabyte can claim terabytes."""

MAX_MEMBERS: Final = 5_000_000
MAX_FOLDERS: Final = 100_000
MAX_NAME: Final = 4096
MAX_GROWTH: Final = 1100
_LOCAL_HEADER: Final = 30
_ENCRYPTED: Final = 0x1  # bit 0 of a member's flags
_UTF8: Final = 0x800  # bit 11
# What every zip program writes. Python's readers of the others unpack without a bound, whatever size is asked for.
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_READ_FAULTS: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


class ZipArchive:
    """A zip file that several threads read members of.

    `zipfile` counts its open members without a lock, so two threads can close the file under each other's hands.
    Members are therefore read one at a time, whole; decoding, which is what takes long, happens outside.

    Raises:
        DataError: a file that can't be read as a zip.
    """

    def __init__(self, path: Path) -> None:
        self.name = decodable(str(path))
        self._lock = threading.Lock()
        try:
            require_regular(path)
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{self.name} is no readable zip ({error}): it is damaged or incomplete, get it anew"
            ) from error
        except OSError as error:
            raise DataError(f"{self.name} can't be opened ({error.strerror or error}): check the file") from error
        _check_directory(self.name, self._zip)

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
            # The zip may lie about the size: reading with a bound is what keeps a bomb from being unpacked.
            with self._lock, self._zip.open(member) as file:
                return file.read(size + 1)
        except _READ_FAULTS as error:
            raise self.bad_image(member, f"damaged in the zip: {error}") from error

    def full_name(self, member: str) -> str:
        """Return how messages name a member: as if the zip were a folder."""
        return f"{self.name}/{_name(self._zip.getinfo(member))}"

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
    max_pixels: int = MAX_PIXELS

    @property
    def location(self) -> str:
        """See `EncodedSource`."""
        return self.archive.full_name(self.member)

    def encoded(self) -> bytes:
        """See `EncodedSource`."""
        return self.archive.read(self.member)

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """See `ImageSource`."""
        return open_image(io.BytesIO(self.encoded()), name=self.location, max_pixels=self.max_pixels, deep=deep)

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        return read_size(io.BytesIO(self.encoded()), name=self.location, max_pixels=self.max_pixels)


def read_zip(path: Path, max_pixels: int = MAX_PIXELS) -> ImageTree:
    """Return the images in a zip. Nothing is unpacked, so names such as `../x.jpg` do no harm.

    Args:
        path: of the zip.
        max_pixels: of how many pixels an image may be.

    Raises:
        DataError: a zip that is damaged, encrypted, or packed by a method Python has no reader for.
    """
    archive = ZipArchive(path)
    files: list[tuple[Parts, ImageSource]] = []
    folders: set[Parts] = set()
    ignored: list[Parts] = []
    for info in archive.members():
        # Some Windows programs write backslashes, against the format's rules.
        name = _name(info)
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        if any(is_junk(part) for part in parts):
            continue
        is_folder = name.endswith(("/", "\\"))
        folders.update(parts[:depth] for depth in range(1, len(parts) + is_folder))
        if len(folders) > MAX_FOLDERS:
            raise DataError(f"{archive.name} has more than {MAX_FOLDERS:,} folders: unpack it and give its images")
        if is_folder:
            continue
        if not is_image_name(name):
            ignored.append(parts)
            continue
        _check_readable(archive.name, info)
        files.append((parts, MemberSource(archive, info.filename, "/".join(parts), info.file_size, max_pixels)))
    return ImageTree(archive.name, files, frozenset(folders), ignored)


def _check_directory(name: str, archive: zipfile.ZipFile) -> None:
    """Refuse a directory that no zip program writes, before a path is taken apart or a member read.

    Paths of thousands of folders within each other take gigabytes as soon as they are listed; members that share their
    bytes, or unpack to more than deflate can pack, make a bomb of a small file.
    """
    end = archive.start_dir
    if len(archive.filelist) > MAX_MEMBERS:
        raise DataError(f"{name} has {len(archive.filelist):,} members, more than the {MAX_MEMBERS:,} allowed")
    for info in sorted(archive.filelist, key=lambda info: info.header_offset, reverse=True):
        if len(info.filename) > MAX_NAME or info.filename.count("/") + info.filename.count("\\") > MAX_DEPTH:
            raise DataError(
                f"{name} has a member more than {MAX_DEPTH} folders deep, or of a name of thousands of letters"
            )
        # A local header has at least 30 bytes; deflate packs to no less than a 1032nd.
        shared = not 0 <= info.header_offset <= end - _LOCAL_HEADER - info.compress_size
        if shared or info.file_size > MAX_GROWTH * (info.compress_size + 1):
            raise DataError(
                f"{name} is no sound zip ({printable(_name(info))} overlaps another or grows out of bounds)"
            )
        end = info.header_offset


def _name(info: zipfile.ZipInfo) -> str:
    """Return a member's name. Many programs write UTF-8 without saying so, which `zipfile` reads as DOS letters."""
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _check_readable(zip_name: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{zip_name} is encrypted ({_name(info)}): unpack it with its password and give the folder")
    if info.compress_type not in _METHODS:
        method = f"method {info.compress_type}"
        raise DataError(f"{zip_name} is packed by {method}, which can't be read here: unpack it and give the folder")
