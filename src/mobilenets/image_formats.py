"""Recognising an image file and opening its header, through those of Pillow's decoders that photographs need.

Cameras and scanners store 10, 12 or 14 bits in the lower part of 16: taken from the full 16, such a picture is near
black. A picture alone can't tell, for it may be dark; those of a whole data set can (`mobilenets.data.decoding` looks
at them). What was found travels with the network as a part of its `Preprocessing`, so that every picture is scaled by
one rule, in training and on the device. What a file itself says of its bits goes first.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from mobilenets.errors import DataError
from mobilenets.image_folders import reads_heic
from mobilenets.install import install_line

MAX_PIXELS: Final = 80_000_000
"""Pixels a picture may have by default. The header is believed before anything is decoded, so a
decompression bomb costs nothing."""

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
_HEIF: Final = "HEIF"
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# What decoders raise on damaged files: there is no common base.
DECODER_FAULTS: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError),
    *(RuntimeError, MemoryError, AssertionError, BufferError, StopIteration),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
_NOT_THIS_FORMAT: Final = (SyntaxError, IndexError, TypeError, struct.error)  # the list `Image.open` goes by
# As `warnings.filters` stores them: Pillow's warnings about odd metadata, and about sizes, which are bounded here.
_PILLOW_WARNINGS: Final = (
    ("ignore", None, UserWarning, re.compile(r"PIL\."), 0),
    ("ignore", None, Image.DecompressionBombWarning, re.compile(r"PIL\."), 0),
)


def check_max_pixels(max_pixels: int) -> None:
    """Refuse a limit that no image can keep.

    Raises:
        DataError: it is below 1.
    """
    if max_pixels < 1:
        raise DataError(f"max_pixels is {max_pixels}; it must be at least 1")


class UnreadableError(Exception):
    """Why a picture can't be read; becomes a `BadImage` once the name is known."""


def identify(file: BinaryIO, max_pixels: int) -> ImageFile.ImageFile:
    """Open the header. Unlike `Image.open` it does not warn of bombs, and it tells a broken header from no image.

    Raises:
        UnreadableError: it is no image, damaged, or has more than `max_pixels` pixels.
    """
    hush_pillow()
    file.seek(0)
    prefix = file.read(16)
    if not prefix:
        raise UnreadableError("empty file (0 bytes)")
    load_decoders()
    known = [name for name in (*_PLUGINS, _HEIF) if name in Image.OPEN]
    refusal: UnreadableError | None = None
    for format_name in known:
        try:
            image = _opened(file, prefix, format_name)
        except UnreadableError as error:
            refusal = refusal or error  # AVIF and HEIC may begin the same way: the next may know it
            continue
        if image is not None:
            _check_size(*image.size, max_pixels)
            return image
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIC_BRANDS and not reads_heic():
        raise UnreadableError(f"a HEIC picture, which takes pillow-heif to read: {install_line('heic')}")
    raise refusal or UnreadableError(f"not an image (known are {', '.join(known)})")


def _opened(file: BinaryIO, prefix: bytes, format_name: str) -> ImageFile.ImageFile | None:
    """A file opened as one of a format; None where it does not begin like one."""
    factory, accept = Image.OPEN[format_name]
    try:
        if accept is not None and accept(prefix) is not True:
            return None
        file.seek(0)
        image: ImageFile.ImageFile = factory(file, "")
    except _NOT_THIS_FORMAT as error:
        raise UnreadableError(
            f"damaged or truncated: starts like {format_name}, but its header can't be read"
        ) from error
    except DECODER_FAULTS as error:
        raise UnreadableError(reason(error)) from error
    return image


@cache
def load_decoders() -> None:
    """Load the decoders of our formats that are installed; `Image.init` would load all forty of Pillow's."""
    for plugin in _PLUGINS.values():
        if find_spec(f"PIL.{plugin}") is not None:
            import_module(f"PIL.{plugin}")
    if reads_heic():
        import_module("pillow_heif").register_heif_opener()
    _hush_libtiff()


def _hush_libtiff() -> None:
    """Keep libtiff from writing what it finds in damaged files to the process's standard error, past Python.

    It is the one Pillow's own module is linked to. Where it is built in, its functions can't be had, and it stays.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(import_module("PIL._imaging").__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise UnreadableError(f"damaged: {width}x{height} pixels")
    if width * height > max_pixels:
        whole = max_pixels % 1_000_000 == 0
        allowed = f"{max_pixels // 1_000_000} million" if whole else f"{max_pixels:,}"
        limit = f"more than {allowed} allowed (by --max-pixels, in Python max_pixels)"
        raise UnreadableError(f"decompression bomb: {width}x{height} pixels, {limit}")


def reason(error: BaseException, what: str = "") -> str:
    """One phrase for a decoder's fault."""
    if isinstance(error, MemoryError):
        return "too large: it needs more memory than there is"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return "decompression bomb: a frame is larger than the picture says"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated: the file ends before the picture does"
    return f"{what or 'damaged: '}{text.splitlines()[0]}"


def hush_pillow() -> None:
    """Suppress Pillow's warnings about odd metadata and large pictures, which are handled here.

    `warnings.catch_warnings` is no way to do that: it is not thread-safe before Python 3.14. Filters that name
    Pillow's modules and nothing else are put in front once and stay.
    """
    if tuple(warnings.filters[: len(_PILLOW_WARNINGS)]) != _PILLOW_WARNINGS:
        for _, _, category, module, _ in reversed(_PILLOW_WARNINGS):
            warnings.filterwarnings("ignore", category=category, module=module.pattern)


SAMPLE_BITS: Final = (8, 10, 12, 14, 16, 20, 24, 32)
"""Bits that samples hold; those of a data set are the fewest of these that hold its greatest value."""
FULL_BITS: Final = 16

GREY_MODES: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Pillow's names of grey with more than 8 bits."""
PPM: Final = "PPM"
"""In place of a rawmode: 16-bit colours of PPM, which Pillow scales by what the file calls the greatest value."""
GREY_ALPHA: Final = "RGBA"
"""The rawmode in which the two bytes each of a grey value and its alpha come out as four channels."""
_FLOAT_WHITES: Final = (1.0, *(2.0**bits - 1 for bits in SAMPLE_BITS[:5]))
_TIFF_BITS: Final = 258
_TIFF_PHOTOMETRIC: Final = 262
_TIFF_DESCRIPTION: Final = 270
_SIGNIFICANT_BITS: Final = re.compile(r'\bSignificantBits="(\d{1,2})"')  # of OME-XML, which microscopes write
_SWAPPED: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_PNG_HEADER_BYTES: Final = 65536  # behind which no program puts the bits of the samples


@dataclass(frozen=True, slots=True)
class DeepPixels:
    """Which stored value becomes white.

    Attributes:
        bits: of whole numbers up to 65535: `2 ** bits - 1` is white, what is greater is white too.
        float_white: the value of floats that is white; None scales every picture by itself, by its greatest value.
    """

    bits: int = FULL_BITS
    float_white: float | None = None

    @property
    def white(self) -> float:
        """The whole number that is white."""
        return 2.0**self.bits - 1


AS_STORED: Final = DeepPixels()
"""The full range of 16 bits, and each picture of floats by itself: what holds where nothing was found out."""


@dataclass(frozen=True, slots=True)
class DeepValue:
    """The greatest value of a picture whose file does not say which value is white.

    Attributes:
        greatest: of its finite samples.
        is_float: whether they are floats.
        significant_bits: how many bits of them are said to mean something, 0 where nothing is. That is no white yet:
            PNG wants such samples scaled up to all 16 bits, and not all who write it do so.
    """

    greatest: float
    is_float: bool
    significant_bits: int = 0


def find_rule(values: Iterable[DeepValue]) -> DeepPixels:
    """The rule by which pictures with these greatest values are scaled.

    Whole numbers are of the fewest of `SAMPLE_BITS` that hold all of them and the bits said to be significant, 16 where
    none is above 0; floats go up to 1 or to what that many bits hold, or each picture is scaled by itself where even 16
    bits don't hold them.
    """
    values = tuple(values)
    said = max((value.significant_bits for value in values), default=0)
    whole = max((value.greatest for value in values if not value.is_float), default=0.0)
    real = max((value.greatest for value in values if value.is_float), default=0.0)
    bits = next(bits for bits in SAMPLE_BITS if whole <= 2.0**bits - 1 and said <= bits) if whole > 0 else FULL_BITS
    return DeepPixels(bits, next((white for white in _FLOAT_WHITES if 0 < real <= white), None))


def declared_white(image: Image.Image) -> float | None:
    """The white of whole numbers by what a picture's file says of it; None where it says no more than 16 bits."""
    tags = getattr(image, "tag_v2", {})
    # Pillow hands out 12-bit TIFF as 16 bits of which it uses the lower 12.
    if tags.get(_TIFF_BITS) in (12, (12,)):
        return 4095.0
    description = tags.get(_TIFF_DESCRIPTION)
    if isinstance(description, str) and (found := _SIGNIFICANT_BITS.search(description)):
        bits = int(found.group(1))
        return 2.0**bits - 1 if SAMPLE_BITS[0] <= bits <= FULL_BITS else None
    if image.format == "PPM" and _pnm_maximum(image) not in (None, 65535):
        return 65535.0  # Pillow scales to it what the file calls the greatest value
    return None


def significant_bits(image: Image.Image, file: BinaryIO) -> int:
    """The most bits of a sample that a PNG says mean something (its chunk sBIT); 0 where nothing is said."""
    if image.format != "PNG":
        return 0
    file.seek(0)
    head, place = file.read(_PNG_HEADER_BYTES), 8
    while place + 8 <= len(head):
        size, name = struct.unpack_from(">I4s", head, place)
        if name == b"sBIT":
            return max((bits for bits in head[place + 8 : place + 8 + min(size, 4)] if bits <= FULL_BITS), default=0)
        if name == b"IDAT":
            break
        place += 12 + size
    return 0


def colour_rawmode(image: Image.Image) -> str | None:
    """How a file stores 16-bit colours, of which Pillow keeps the upper 8 bits alone; None for all else."""
    tile = getattr(image, "tile", None)
    if not tile or image.mode not in ("RGB", "RGBA", "RGBX", "CMYK"):
        return None
    args = tile[0].args
    rawmode = args if isinstance(args, str) else args[0] if args else None
    if image.format == "PPM" and not isinstance(args, str) and args[-1] == 65535:
        return PPM
    return rawmode if isinstance(rawmode, str) and rawmode[-4:-1] == ";16" else None


def swapped(rawmode: str) -> str:
    """The same with the bytes of each sample exchanged, so that Pillow keeps the lower 8 bits."""
    return GREY_ALPHA if rawmode.startswith("LA;") else rawmode[:-1] + _SWAPPED[rawmode[-1]]


def to_8_bits(image: Image.Image, deep: DeepPixels, declared: float | None) -> Image.Image:
    """Scale grey of more than 8 bits to mode L; `Image.convert` would clip at 255.

    Whole numbers are scaled from 0 to white. Those below 0, and in the full range those above 65535, are scaled from
    the least to the greatest value of their picture; floats, where the rule has no white for them, from [0, 1], else
    [0, 255], else [0, 65535], else likewise.

    Raises:
        ValueError: no pixel has a finite value.
    """
    values = np.asarray(image).astype(np.float32)
    least, greatest = extent(values)
    if image.mode == "F":
        usual: tuple[float, ...] = (1.0, 255.0, 65535.0) if deep.float_white is None else (deep.float_white,)
        clips = deep.float_white is not None
    else:
        usual = (deep.white if declared is None else declared,)
        clips = usual != (65535.0,)
    low, high = next(((0.0, top) for top in usual if least >= 0 and (clips or greatest <= top)), (least, greatest))
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low).clip(low, high)
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0:
        values = high - values  # WhiteIsZero, which Pillow turns round for 8 bits but not for 16
    span = max(high - low, 1e-12)
    # The difference of floats may be more than a float holds.
    scaled = (values - low) * (255.0 / span) if span < 1e38 else values * (255.0 / span) - low * (255.0 / span)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def colours_to_8_bits(values: NDArray[np.float32], deep: DeepPixels, mode: str) -> Image.Image:
    """Scale 16-bit samples `[H, W, C]` of a picture of this mode of Pillow's to 8 bits; alpha has all 16."""
    scaled = values * (255.0 / deep.white)
    if mode == "RGBA":
        scaled[:, :, 3] = values[:, :, 3] * (255.0 / (2.0**FULL_BITS - 1))
    pixels = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    height, width = pixels.shape[:2]
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def join(upper: Image.Image, lower: Image.Image) -> NDArray[np.float32]:
    """16-bit samples `[H, W, C]` of their upper and lower bytes."""
    values: NDArray[np.float32] = np.asarray(upper).astype(np.float32) * 256 + np.asarray(lower)
    return values


def extent(values: NDArray[np.float32]) -> tuple[float, float]:
    """The least and the greatest of the finite values.

    Raises:
        ValueError: there is none.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no pixel has a finite value")
    return float(finite.min()), float(finite.max())


def _pnm_maximum(image: Image.Image) -> int | None:
    args = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else None
    return args[-1] if isinstance(args, tuple) and isinstance(args[-1], int) and len(args) == 2 else None
