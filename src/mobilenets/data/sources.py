"""Where one image comes from, and the labelled lists of such sources that splits are made of.

A list of images to leave out has a name a line, a tab, and why. The images themselves stay where and as they are. A
name that would not survive as a line (it begins like a comment, or holds a tab or an end of line) stands in quotes, as
JSON writes text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilenets.errors import DataError
from mobilenets.files import write_text_atomically
from mobilenets.formatting import decodable, printable
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.image_record import Digests
from mobilenets.images import MAX_PIXELS, open_image, read_file, read_size
from mobilenets.limits import MAX_LIST_BYTES, parse_json, read_text

MAX_FILE_BYTES: Final = 256 * 2**20
"""Of a file that is read whole before it is known to be a picture; larger ones are read as far as they are needed."""


class ImageSource(Protocol):
    """An image that can be opened any number of times, from any thread."""

    @property
    def name(self) -> str:
        """Its name within the data set, with forward slashes: `train/cat/1.jpg`. The same wherever the data lies."""

    @property
    def size(self) -> int:
        """Its size in bytes as stored."""

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """Decode it: upright RGB; `deep` says which value is white where a sample has more than 8 bits.

        Raises BadImagesError, which names where it lies.
        """

    def read_size(self) -> tuple[int, int]:
        """Return width and height in pixels from the header. Raises BadImagesError."""


@runtime_checkable
class EncodedSource(ImageSource, Protocol):
    """An image stored as a file's bytes."""

    @property
    def location(self) -> str:
        """How messages name it: where it lies."""

    @property
    def max_pixels(self) -> int:
        """Of how many pixels it may be; it is refused by its header where it has more."""

    def encoded(self) -> bytes:
        """Return its bytes as stored. Raises BadImagesError where there are none to read."""


def encoded_file(source: ImageSource) -> tuple[Path | BinaryIO, int] | None:
    """An image's file, to be read as far as is needed, and how many pixels it may have; None where it has no file.

    Raises:
        BadImagesError: it can't be read.
    """
    if isinstance(source, FileSource):
        return source.path, source.max_pixels
    if isinstance(source, EncodedSource):
        return io.BytesIO(source.encoded()), source.max_pixels
    return None


@dataclass(frozen=True, slots=True)
class FileSource:
    """An image file; `name` is relative to the data set's folder."""

    path: Path
    name: str
    size: int
    max_pixels: int = MAX_PIXELS

    @property
    def location(self) -> str:
        """See `EncodedSource`."""
        return decodable(str(self.path))

    def encoded(self) -> bytes:
        """See `EncodedSource`."""
        return read_file(self.path, name=self.location)

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """See `ImageSource`."""
        return open_image(self.path, name=self.location, max_pixels=self.max_pixels, deep=deep)

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        return read_size(self.path, name=self.location, max_pixels=self.max_pixels)


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """An image that a package delivers as pixels: uint8 `[H, W]` grey or `[H, W, 3]` RGB."""

    name: str
    pixels: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """See `ImageSource`."""
        return int(self.pixels.nbytes)

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """See `ImageSource`."""
        return Image.fromarray(self.pixels).convert("RGB")

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        height, width = self.pixels.shape[:2]
        return width, height


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images and their classes: `labels[i]`, int64, is the class index of `sources[i]`.

    `digests[i]`, uint64, tells what is in it (see `data.digests`); None where it was not needed yet.

    Raises:
        DataError: as many labels as images are needed, as integers.
    """

    sources: Sequence[ImageSource]
    labels: NDArray[np.int64]
    digests: Digests | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.sources),) or self.labels.dtype != np.int64:
            given = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(f"{len(self.sources)} images need int64 [{len(self.sources)}] labels, not {given}")

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, indices: NDArray[np.int64]) -> ImageSplit:
        """Return the images at `indices`, in that order."""
        digests = None if self.digests is None else self.digests[indices]
        return ImageSplit([self.sources[index] for index in indices], self.labels[indices], digests)


_COMMENT: Final = "#"
_QUOTE: Final = '"'


def read_exclusions(path: str | Path) -> dict[str, str]:
    """Read names and reasons; empty lines and those that begin with `#` are left out.

    Raises:
        DataError: it can't be read.
    """
    try:
        # Editors on Windows put a byte order mark in front.
        text = read_text(path, most=MAX_LIST_BYTES, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list; 'mobilenets doctor DATA --fix' writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} is no list of images ({reason}): it holds a name a line") from error
    excluded: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if line.strip() and not line.startswith(_COMMENT):
            name, _, reason = line.partition("\t")
            excluded[_unquoted(name, f"{path}, line {number}")] = reason
    return excluded


def write_exclusions(path: Path, excluded: Mapping[str, str], about: str) -> None:
    """Write such a list, opened by a line of comment.

    Raises:
        RunError: it can't be written.
    """
    lines = (f"{as_listed(name)}\t{' '.join(reason.split())}\n" for name, reason in excluded.items())
    write_text_atomically(path, f"{_COMMENT} {about}\n" + "".join(lines))


def as_listed(name: str) -> str:
    """A name as the list has it, on one line and without anything a terminal would obey."""
    plain = name.isprintable() and name == name.strip() and not name.startswith((_COMMENT, _QUOTE))
    return name if plain else json.dumps(name)


def _unquoted(name: str, where: str) -> str:
    if not name.startswith(_QUOTE):
        return name
    try:
        return str(parse_json(name))
    except ValueError as error:
        raise DataError(f"{where}: {printable(name)} begins with a quote and is no JSON text ({error})") from error
