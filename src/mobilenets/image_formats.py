"""Recognising an image file and opening its header, through those of Pillow's decoders that photographs need."""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
import warnings
import zlib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO, Final

from PIL import Image, ImageFile

from mobilenets.errors import DataError
from mobilenets.image_folders import reads_heic
from mobilenets.install import install_line

MAX_PIXELS: Final = 80_000_000
"""Pixels a picture may have where nobody says otherwise. The header is believed before anything is decoded, so a
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
# As `warnings.filters` stores them: Pillow's remarks about odd metadata, and about sizes, which are bounded here.
_PILLOW_REMARKS: Final = (
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
            refusal = refusal or error  # AVIF and HEIC may begin alike: the next may know it
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
    """Silence Pillow's remarks about odd metadata and large pictures, which are coped with here.

    `warnings.catch_warnings` is no way to do that: it is not thread-safe before Python 3.14. Filters that name
    Pillow's modules and nothing else are put in front once and stay.
    """
    if tuple(warnings.filters[: len(_PILLOW_REMARKS)]) != _PILLOW_REMARKS:
        for _, _, category, module, _ in reversed(_PILLOW_REMARKS):
            warnings.filterwarnings("ignore", category=category, module=module.pattern)
