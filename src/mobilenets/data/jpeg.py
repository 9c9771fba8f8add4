"""Decode JPEGs at a reduced scale and without detours, by simplejpeg where it is installed.

A JPEG stores blocks of 8x8 frequencies; leaving the high ones out decodes it at 1/2, 1/4 or 1/8 of its size for less
work. simplejpeg hands out libjpeg-turbo's pixels as they are, lets other threads run meanwhile, and reports the least
damage; what it refuses is judged by `mobilenets.images`, whose pixels are the same where both use libjpeg-turbo.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import features

from mobilenets.images import MAX_PIXELS, ChooseScale

_COLOURS: Final = ("YCbCr", "Gray")  # others, as CMYK, are turned into RGB by Pillow's formulas
_EXIF: Final = b"Exif\0\0"
_XMP_ORIENTATION: Final = b"tiff:Orientation"
_START: Final = b"\xff\xd8\xff"


def decoder_name() -> str:
    """Name and version of what decodes training's JPEGs, e.g. `simplejpeg 1.9.0`: another may round otherwise."""
    if _simplejpeg() is not None:
        return f"simplejpeg {version('simplejpeg')}"
    return f"Pillow {version('pillow')} with libjpeg-turbo {features.version_feature('libjpeg_turbo') or 'missing'}"


def decode_scaled(
    content: bytes, choose: ChooseScale, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """Decode a plain JPEG at the scale chosen: uint8 RGB `[H, W, 3]`, and its width and height at full scale.

    None for all that is not plain: another format or colour space, a picture that may have to be turned, one that is
    damaged or too large, or if simplejpeg is not installed. `mobilenets.images` reads or refuses those.
    """
    library = _simplejpeg()
    if library is None or not content.startswith(_START) or _EXIF in content or _XMP_ORIENTATION in content:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(content)
        if colours not in _COLOURS or not 0 < width * height <= max_pixels:
            return None
        divisor = choose(width, height)
        least = {"min_height": -(-height // divisor), "min_width": -(-width // divisor), "min_factor": divisor}
        pixels: NDArray[np.uint8] = library.decode_jpeg(content, **(least if divisor > 1 else {}))
    except (ValueError, MemoryError):
        return None
    return pixels, (width, height)


def is_whole(content: bytes, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether these bytes are a JPEG of usual colours without the least damage; False leaves the question open.

    All of it is read, at the smallest scale: damage shows in the bytes, and most of the time goes into those.
    """
    library = _simplejpeg()
    if library is None or not content.startswith(_START):
        return False
    try:
        height, width, colours, _ = library.decode_jpeg_header(content)
        if colours not in _COLOURS or not 0 < width * height <= max_pixels:
            return False
        library.decode_jpeg(content, min_height=1, min_width=1, min_factor=8)
    except (ValueError, MemoryError):
        return False
    return True


@cache
def _simplejpeg() -> Any:
    if find_spec("simplejpeg") is None:
        return None
    import simplejpeg

    return simplejpeg
