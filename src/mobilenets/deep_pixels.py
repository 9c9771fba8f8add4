"""Pictures with more than 8 bits a sample: which stored value becomes white, and how they are scaled to 8 bits.

Cameras and scanners store 10, 12 or 14 bits in the lower part of 16: taken from the full 16, such a picture is near
black. A picture alone can't tell, for it may be dark; those of a whole data set can (`mobilenets.data.bit_depth` looks
at them). What was found travels with the network as a part of its `Preprocessing`, so that every picture is scaled by
one rule, in training and on the device. What a file itself says of its bits goes first.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

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
_PNG_HEADER_BYTES: Final = 65536  # behind which nobody puts the bits of the samples


@dataclass(frozen=True, slots=True)
class DeepPixels:
    """Which stored value becomes white.

    Attributes:
        bits: of whole numbers up to 65535: `2 ** bits - 1` is white, what is greater is white too.
        float_white: the value of floats that is white; None judges every picture by itself, by its greatest value.
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
    none is above 0; floats go up to 1 or to what that many bits hold, or each picture is judged by itself where even 16
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
