"""From an image file to an upright 8-bit RGB picture, or one phrase that says why it can't be read; no PyTorch here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from mobilenets.errors import BadImage, BadImagesError
from mobilenets.image_formats import (
    AS_STORED,
    DECODER_FAULTS,
    GREY_ALPHA,
    GREY_MODES,
    MAX_PIXELS,
    PPM,
    DeepPixels,
    DeepValue,
    UnreadableError,
    colour_rawmode,
    colours_to_8_bits,
    declared_white,
    extent,
    identify,
    join,
    reason,
    significant_bits,
    swapped,
    to_8_bits,
)
from mobilenets.limits import open_regular

__all__ = [
    "MAX_PIXELS",
    "ChooseScale",
    "Header",
    "check_image",
    "greatest_value",
    "inspect_image",
    "open_image",
    "open_scaled",
    "read_file",
    "read_size",
]

_ORIENTATION: Final = 274
_SIDEWAYS: Final = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

ChooseScale = Callable[[int, int], int]
"""From an upright picture's width and height to the divisor of the scale it is decoded at: 1, 2, 4 or 8."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's file says of it.

    Attributes:
        format: `JPEG`, `PNG`, ...
        mode: Pillow's name of how pixels are stored: `RGB`, `L` (grey), `CMYK`, `I;16`, `RGBA`, `P` (palette), ...
        width: in pixels as stored, before EXIF turns the picture.
        height: likewise.
        orientation: EXIF's, 1 where the picture is stored upright.
        animated: whether it has several frames.
        deep: its greatest value, where it has more than 8 bits a sample and does not say how many; see
            `greatest_value`.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    animated: bool
    deep: DeepValue | None = None


def open_image(
    source: Path | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS, deep: DeepPixels = AS_STORED
) -> Image.Image:
    """Decode the picture in a file: upright, 8-bit RGB, completely read.

    EXIF orientation is applied. Transparency is composited over white; CMYK and YCCK become RGB by Pillow's formula
    (colour profiles are not applied); of an animation the first frame counts. More than 8 bits a sample are scaled, by
    `deep` unless the file says itself which value is white; see `mobilenets.image_formats`. Safe to call from several
    threads.

    Args:
        source: a path, or an open binary file that can seek. What is no regular file, as a pipe, is not opened.
        name: what to call the picture in the error; by default the path.
        max_pixels: a picture of more is refused by its header.
        deep: which value is white where there are more than 8 bits a sample.

    Raises:
        BadImagesError: it can't be read; its only `bad` entry says why.
    """
    with _reading(source, name) as file:
        return _finish(identify(file, max_pixels), file, deep)


def inspect_image(
    source: Path | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS, deep: DeepPixels = AS_STORED
) -> tuple[Header, Image.Image]:
    """Decode a picture as `open_image` does, and tell what its file says of it.

    Raises:
        BadImagesError: see `open_image`.
    """
    with _reading(source, name) as file:
        return _header(file, max_pixels), _finish(identify(file, max_pixels), file, deep)


def open_scaled(
    source: BinaryIO,
    choose: ChooseScale,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    deep: DeepPixels = AS_STORED,
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode the picture in a file as `open_image` does, a JPEG at the scale that `choose` answers.

    Returns:
        The picture, and its width and height at full scale. What is no JPEG is at full scale itself.

    Raises:
        BadImagesError: see `open_image`.
    """
    with _reading(source, name) as file:
        image = identify(file, max_pixels)
        if image.format != "JPEG":
            picture = _finish(image, file, deep)
            return picture, picture.size
        size = image.size[::-1] if _orientation(image) in _SIDEWAYS else image.size
        _reduce(image, choose(*size))
        return _finish(image, file, deep), size


def check_image(source: BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> None:
    """Find out whether `open_image` can read a file, for less where it is a JPEG: that is decoded at 1/8 of its size.

    Raises:
        BadImagesError: see `open_image`.
    """
    with _reading(source, name) as file:
        image = identify(file, max_pixels)
        if image.format == "JPEG":
            _reduce(image, 8)
        _finish(image, file, AS_STORED)


def greatest_value(
    source: Path | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> DeepValue | None:
    """Return the greatest value of a picture that has more than 8 bits a sample and does not say how many of them.

    None for all others, which takes their header only, and for those with a value below 0, which are scaled from their
    own least to their greatest value.

    Raises:
        BadImagesError: see `open_image`.
    """
    with _reading(source, name) as file:
        return _greatest(identify(file, max_pixels), file)


def read_file(path: Path, *, name: str | None = None) -> bytes:
    """Return a file's bytes.

    Raises:
        BadImagesError: it can't be read, or is no regular file.
    """
    with _reading(path, name) as file:
        return file.read()


def read_size(source: Path | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return a picture's width and height in pixels from its header alone; EXIF may still exchange the two.

    Raises:
        BadImagesError: there is no readable header.
    """
    with _reading(source, name) as file:
        return identify(file, max_pixels).size


@contextmanager
def _reading(source: Path | BinaryIO, name: str | None) -> Iterator[BinaryIO]:
    """The open file; what can't be read becomes a `BadImagesError` that names it."""
    try:
        if isinstance(source, Path):
            with open_regular(source) as file:
                yield file
        else:
            yield source
    except (UnreadableError, OSError, ValueError) as error:  # ValueError: a path with a zero byte, a closed file
        label = name or str(source if isinstance(source, Path) else getattr(source, "name", "image"))
        told = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BadImagesError([BadImage(label, told[:1].lower() + told[1:])]) from error


def _header(file: BinaryIO, max_pixels: int) -> Header:
    image = identify(file, max_pixels)
    is_deep = image.mode in GREY_MODES or colour_rawmode(image) is not None  # asked before EXIF has a PNG loaded
    animated = False
    with contextlib.suppress(*DECODER_FAULTS):  # a GIF is asked for its second frame, which may be cut off
        animated = bool(getattr(image, "is_animated", False))
    orientation = _orientation(image)
    found = Header(str(image.format), image.mode, image.width, image.height, orientation, animated)
    return replace(found, deep=_greatest(identify(file, max_pixels), file)) if is_deep else found


def _orientation(image: ImageFile.ImageFile) -> int:
    with contextlib.suppress(*DECODER_FAULTS):  # a broken EXIF block turns nothing, here as in `_finish`
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _reduce(image: ImageFile.ImageFile, divisor: int) -> None:
    """Have a JPEG decoded at a part of its size."""
    if divisor > 1:
        width, height = image.size
        image.draft(None, (max(width // divisor, 1), max(height // divisor, 1)))


def _finish(image: ImageFile.ImageFile, file: BinaryIO, deep: DeepPixels) -> Image.Image:
    """Load, turn upright and make RGB what was identified."""
    declared = _declared(image)
    stored = colour_rawmode(image) if deep.bits < AS_STORED.bits else None
    if stored == PPM and (samples := _pnm_samples(image, file)) is not None:
        return colours_to_8_bits(samples, deep, "RGB")
    _load(image)
    lower = None if stored in (None, PPM) else _lower_bytes(file, str(stored))
    # With whole pixels and a broken EXIF block, viewers show a picture as it is stored, and so do we.
    for one in (image, lower) if lower is not None else (image,):
        with contextlib.suppress(*DECODER_FAULTS):
            ImageOps.exif_transpose(one, in_place=True)
    try:
        return _to_rgb(
            image if lower is None else colours_to_8_bits(join(image, lower), deep, image.mode), deep, declared
        )
    except (*DECODER_FAULTS, ImportError) as error:  # ImportError: LAB asks for LittleCMS, which not all Pillows have
        raise UnreadableError(reason(error, f"its {image.mode} colours can't be turned into RGB: ")) from error


def _load(image: ImageFile.ImageFile) -> None:
    try:
        image.load()
    except DECODER_FAULTS as error:
        raise UnreadableError(reason(error)) from error


def _lower_bytes(file: BinaryIO, stored: str) -> Image.Image:
    """The lower bytes of 16-bit colours, of which Pillow keeps the upper ones: the file read again, bytes exchanged."""
    image = identify(file, sys.maxsize)
    rawmode = swapped(stored)
    image.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in image.tile
    ]
    _load(image)
    if rawmode != GREY_ALPHA:
        return image
    _, grey, _, alpha = image.split()
    return Image.merge("RGBA", (grey, grey, grey, alpha))


def _greatest(image: ImageFile.ImageFile, file: BinaryIO) -> DeepValue | None:
    stored = colour_rawmode(image)
    if image.mode in GREY_MODES:
        if _declared(image) is not None:
            return None
        values, is_float = _samples(image), image.mode == "F"
    elif stored == PPM:
        samples = _pnm_samples(image, file)
        if samples is None:
            return None
        values, is_float = samples, False
    elif stored is not None:
        _load(image)
        values, is_float = join(image, _lower_bytes(file, stored))[:, :, :3], False
    else:
        return None
    try:
        least, greatest = extent(values)
    except ValueError as error:
        raise UnreadableError(f"damaged: {error}") from error
    return None if least < 0 else DeepValue(greatest, is_float, significant_bits(image, file))


def _declared(image: ImageFile.ImageFile) -> float | None:
    if image.mode in GREY_MODES:
        with contextlib.suppress(*DECODER_FAULTS):  # a tag that is damaged says nothing
            return declared_white(image)
    return None


def _samples(image: ImageFile.ImageFile) -> NDArray[np.float32]:
    _load(image)
    return np.asarray(image).astype(np.float32)


def _pnm_samples(image: ImageFile.ImageFile, file: BinaryIO) -> NDArray[np.float32] | None:
    """16-bit colours `[H, W, 3]` of a PPM, which Pillow scales to 8 bits on loading.

    None where they are written as text, as no program writes photographs: they are taken as the file has them.
    """
    tile = image.tile[0]
    if tile.codec_name != "ppm":
        return None
    file.seek(tile.offset)
    content = file.read(6 * image.width * image.height)
    if len(content) < 6 * image.width * image.height:
        raise UnreadableError("truncated: the file ends before the picture does")
    return np.frombuffer(content, ">u2").astype(np.float32).reshape(image.height, image.width, 3)


def _to_rgb(image: Image.Image, deep: DeepPixels, declared: float | None) -> Image.Image:
    if image.mode in GREY_MODES:
        try:
            return to_8_bits(image, deep, declared).convert("RGB")
        except ValueError as error:
            raise UnreadableError(f"damaged: {error}") from error
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # what `convert` would copy
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
