"""From an image file to an upright 8-bit RGB picture, or one phrase that says why it can't be read; no PyTorch here."""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import Image, ImageFile, ImageOps

from mobilenets.errors import BadImage, BadImagesError

MAX_PIXELS: Final = 80_000_000
"""Pixels a picture may have. The header is believed before anything is decoded, so a bomb costs nothing."""

# Pillow reads some forty formats; these are the ones photographs come in. Leaving the others out keeps, among others,
# PostScript (which Pillow hands to Ghostscript) away from files of unknown origin.
_PLUGINS: Final = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "AVIF": "AvifImagePlugin",  # since Pillow 11.3
}
# What Pillow's decoders raise on damaged files: there is no common base.
_DECODER_FAULTS: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
_NOT_THIS_FORMAT: Final = (SyntaxError, IndexError, TypeError, struct.error)  # the list `Image.open` goes by
_DEEP_MODES: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_PILLOW_REMARKS: Final = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)  # as `warnings.filters` stores it
_ORIENTATION: Final = 274
_TIFF_BITS: Final = 258
_TIFF_PHOTOMETRIC: Final = 262


ChooseScale = Callable[[int, int], int]
"""From an upright picture's width and height to the divisor of the scale it is decoded at: 1, 2, 4 or 8."""

_SIDEWAYS: Final = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


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
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    animated: bool


class _UnreadableError(Exception):
    """Why a picture can't be read; becomes a `BadImage` once the name is known."""


def open_image(source: Path | BinaryIO, *, name: str | None = None) -> Image.Image:
    """Decode the picture in a file: upright, 8-bit RGB, completely read.

    EXIF orientation is applied. Transparency is composited over white; CMYK and YCCK become RGB by Pillow's formula
    (colour profiles are not applied); of an animation the first frame counts. Deeper pixels are scaled, never clipped:
    12-bit and 16-bit grey from their full range; integers beyond 16 bits from their least to their greatest value;
    floats from [0, 1], else [0, 255], else [0, 65535], else from their least to their greatest. Safe to call from
    several threads.

    Args:
        source: a path, or an open binary file that can seek.
        name: what to call the picture in the error; by default the path.

    Raises:
        BadImagesError: it can't be read; its only `bad` entry says why.
    """
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _decode(file)
        return _decode(source)
    except (_UnreadableError, OSError) as error:
        raise _bad_image(source, name, error) from error


def inspect_image(source: Path | BinaryIO, *, name: str | None = None) -> tuple[Header, Image.Image]:
    """Decode a picture as `open_image` does, and tell what its file says of it.

    Raises:
        BadImagesError: see `open_image`.
    """
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _header(file), _decode(file)
        return _header(source), _decode(source)
    except (_UnreadableError, OSError) as error:
        raise _bad_image(source, name, error) from error


def open_scaled(
    source: BinaryIO, choose: ChooseScale, *, name: str | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode the picture in a file as `open_image` does, a JPEG at the scale that `choose` answers.

    Returns:
        The picture, and its width and height at full scale. What is no JPEG is at full scale itself.

    Raises:
        BadImagesError: see `open_image`.
    """
    try:
        image = _identify(source)
        if image.format != "JPEG":
            picture = _finish(image)
            return picture, picture.size
        size = image.size[::-1] if _is_sideways(image) else image.size
        _reduce(image, choose(*size))
        return _finish(image), size
    except (_UnreadableError, OSError) as error:
        raise _bad_image(source, name, error) from error


def check_image(source: BinaryIO, *, name: str | None = None) -> None:
    """Find out whether `open_image` can read a file, for less where it is a JPEG: that is decoded at 1/8 of its size.

    Raises:
        BadImagesError: see `open_image`.
    """
    try:
        image = _identify(source)
        if image.format == "JPEG":
            _reduce(image, 8)
        _finish(image)
    except (_UnreadableError, OSError) as error:
        raise _bad_image(source, name, error) from error


def read_file(path: Path, *, name: str | None = None) -> bytes:
    """Return a file's bytes.

    Raises:
        BadImagesError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _bad_image(path, name, error) from error


def read_size(source: Path | BinaryIO, *, name: str | None = None) -> tuple[int, int]:
    """Return a picture's width and height in pixels from its header alone; EXIF may still exchange the two.

    Raises:
        BadImagesError: there is no readable header.
    """
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _identify(file).size
        return _identify(source).size
    except (_UnreadableError, OSError) as error:
        raise _bad_image(source, name, error) from error


def _bad_image(source: Path | BinaryIO, name: str | None, error: Exception) -> BadImagesError:
    label = name or str(source if isinstance(source, Path) else getattr(source, "name", "image"))
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return BadImagesError([BadImage(label, reason[:1].lower() + reason[1:])])


def _header(file: BinaryIO) -> Header:
    image = _identify(file)
    orientation = 1
    with contextlib.suppress(*_DECODER_FAULTS):  # a broken EXIF block turns nothing, here as in `_decode`
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    animated = bool(getattr(image, "is_animated", False))
    return Header(str(image.format), image.mode, image.width, image.height, orientation, animated)


def _decode(file: BinaryIO) -> Image.Image:
    return _finish(_identify(file))


def _is_sideways(image: ImageFile.ImageFile) -> bool:
    with contextlib.suppress(*_DECODER_FAULTS):
        return image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
    return False


def _reduce(image: ImageFile.ImageFile, divisor: int) -> None:
    """Have a JPEG decoded at a part of its size."""
    if divisor > 1:
        width, height = image.size
        image.draft(None, (max(width // divisor, 1), max(height // divisor, 1)))


def _finish(image: ImageFile.ImageFile) -> Image.Image:
    """Load, turn upright and make RGB what was identified."""
    try:
        image.load()
    except _DECODER_FAULTS as error:
        raise _UnreadableError(_reason(error)) from error
    # With whole pixels and a broken EXIF block, viewers show a picture as it is stored, and so do we.
    with contextlib.suppress(*_DECODER_FAULTS):
        ImageOps.exif_transpose(image, in_place=True)
    try:
        return _to_rgb(image)
    except (*_DECODER_FAULTS, ImportError) as error:  # ImportError: LAB asks for LittleCMS, which not all Pillows have
        raise _UnreadableError(_reason(error, f"its {image.mode} colours can't be turned into RGB: ")) from error


def _identify(file: BinaryIO) -> ImageFile.ImageFile:
    """Open the header. Unlike `Image.open` it does not warn of bombs, and it tells a broken header from no image."""
    _hush_pillow()
    file.seek(0)
    prefix = file.read(16)
    if not prefix:
        raise _UnreadableError("empty file (0 bytes)")
    _load_decoders()
    known = [name for name in _PLUGINS if name in Image.OPEN]
    for format_name in known:
        factory, accept = Image.OPEN[format_name]
        try:
            if accept is not None and accept(prefix) is not True:
                continue
            file.seek(0)
            image: ImageFile.ImageFile = factory(file, "")
        except _NOT_THIS_FORMAT as error:
            raise _UnreadableError(
                f"damaged or truncated: starts like {format_name}, but its header can't be read"
            ) from error
        except _DECODER_FAULTS as error:
            raise _UnreadableError(_reason(error)) from error
        _check_size(*image.size)
        return image
    raise _UnreadableError(f"not an image (known are {', '.join(known)})")


@cache
def _load_decoders() -> None:
    """Load the decoders of our formats that this Pillow has; `Image.init` would load all forty."""
    for plugin in _PLUGINS.values():
        if find_spec(f"PIL.{plugin}") is not None:
            import_module(f"PIL.{plugin}")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise _UnreadableError(f"damaged: {width}x{height} pixels")
    if width * height > MAX_PIXELS:
        allowed = f"more than {MAX_PIXELS // 1_000_000} million allowed"
        raise _UnreadableError(f"decompression bomb: {width}x{height} pixels, {allowed}")


def _reason(error: Exception, what: str = "") -> str:
    if isinstance(error, MemoryError):
        return "too large: it needs more memory than there is"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return "decompression bomb: a frame is larger than the picture says"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated: the file ends before the picture does"
    return f"{what or 'damaged: '}{text.splitlines()[0]}"


def _hush_pillow() -> None:
    """Silence Pillow's remarks about odd metadata, which `open_image` copes with.

    `warnings.catch_warnings` is no way to do that: it is not thread-safe before Python 3.14. A filter that names
    Pillow's modules and nothing else is put in front once and stays.
    """
    if not warnings.filters or warnings.filters[0] != _PILLOW_REMARKS:
        warnings.filterwarnings("ignore", category=UserWarning, module=_PILLOW_REMARKS[3].pattern)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_MODES:
        return _to_8_bits(image).convert("RGB")
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # what `convert` would copy
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to mode L; `Image.convert` would clip at 255."""
    values = np.asarray(image).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise _UnreadableError("damaged: no pixel has a finite value")
    least, greatest = float(values[finite].min()), float(values[finite].max())
    tags = getattr(image, "tag_v2", {})
    # Pillow hands out 12-bit TIFF, of microscopes and scanners, as 16 bits of which it uses the lower 12.
    whole = 4095.0 if tags.get(_TIFF_BITS) in (12, (12,)) else 65535.0
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (whole,)
    low, high = next(((0.0, top) for top in usual if least >= 0 and greatest <= top), (least, greatest))
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if image.mode.startswith("I;16") and tags.get(_TIFF_PHOTOMETRIC) == 0:
        values = high - values  # WhiteIsZero, which Pillow turns round for 8 bits but not for 16
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
