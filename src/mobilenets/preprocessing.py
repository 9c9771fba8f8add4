"""From an image file to a network's input, with Pillow and NumPy only: training, exported files and runtimes share it.

`open_image` turns whatever Pillow reads into an upright 8-bit RGB picture, or says in one phrase why it can't.
`Preprocessing` resizes, crops and normalizes, and travels with the weights as a small dictionary.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from mobilenets.errors import BadImage, BadImagesError, DataError

MAX_PIXELS: Final = 80_000_000
"""Pixels a picture may have. The header is believed before anything is decoded, so a bomb costs nothing."""

# Pillow reads some forty formats; these are the ones photographs come in. Leaving the others out keeps, among others,
# PostScript (which Pillow hands to Ghostscript) away from files of unknown origin.
_FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
# What Pillow's decoders raise on damaged files: there is no common base.
_DECODER_FAULTS: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
_NOT_THIS_FORMAT: Final = (SyntaxError, IndexError, TypeError, struct.error)  # the list `Image.open` goes by
_DEEP_MODES: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_PILLOW_REMARKS: Final = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)  # as `warnings.filters` stores it
_TIFF_PHOTOMETRIC: Final = 262
_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_SIDE: Final = 4096
# A picture longer than this many times its shorter side is cropped before it is resized: enlarging a 1x60000 strip
# to a shorter side of 224 would take 9 GB, of which the centre crop keeps a millionth.
_MAX_ASPECT: Final = 16


class _UnreadableError(Exception):
    """Why a picture can't be read; becomes a `BadImage` once the name is known."""


def open_image(source: Path | BinaryIO, *, name: str | None = None) -> Image.Image:
    """Decode the picture in a file: upright, 8-bit RGB, completely read.

    EXIF orientation is applied. Transparency is composited over white; CMYK and YCCK become RGB by Pillow's formula
    (colour profiles are not applied); of an animation the first frame counts. Deeper pixels are scaled, never clipped:
    16-bit grey by 255/65535; integers beyond 16 bits from their least to their greatest value; floats from [0, 1],
    else [0, 255], else [0, 65535], else from their least to their greatest. Safe to call from several threads.

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


def _decode(file: BinaryIO) -> Image.Image:
    image = _identify(file)
    try:
        image.load()
    except _DECODER_FAULTS as error:
        raise _UnreadableError(_reason(error)) from error
    # With whole pixels and a broken EXIF block, viewers show a picture as it is stored, and so do we.
    with contextlib.suppress(*_DECODER_FAULTS):
        ImageOps.exif_transpose(image, in_place=True)
    return _to_rgb(image)


def _identify(file: BinaryIO) -> ImageFile.ImageFile:
    """Open the header. Unlike `Image.open` it does not warn of bombs, and it tells a broken header from no image."""
    _hush_pillow()
    Image.init()
    file.seek(0)
    prefix = file.read(16)
    if not prefix:
        raise _UnreadableError("empty file (0 bytes)")
    for format_name in _FORMATS:
        factory, accept = Image.OPEN[format_name]
        if accept is not None and accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            image: ImageFile.ImageFile = factory(file, "")
        except _NOT_THIS_FORMAT as error:
            raise _UnreadableError(
                f"damaged or truncated: starts like {format_name}, but its header can't be read"
            ) from error
        except _DECODER_FAULTS as error:
            raise _UnreadableError(_reason(error)) from error
        _check_size(*image.size)
        return image
    raise _UnreadableError(f"not an image (known are {', '.join(_FORMATS)})")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise _UnreadableError(f"damaged: {width}x{height} pixels")
    if width * height > MAX_PIXELS:
        allowed = f"more than {MAX_PIXELS // 1_000_000} million allowed"
        raise _UnreadableError(f"decompression bomb: {width}x{height} pixels, {allowed}")


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return "decompression bomb: a frame is larger than the picture says"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated: the file ends before the picture does"
    return f"damaged: {text.splitlines()[0]}"


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
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    low, high = next(((0.0, top) for top in usual if least >= 0 and greatest <= top), (least, greatest))
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0:
        values = high - values  # WhiteIsZero, which Pillow turns round for 8 bits but not for 16
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input; saved with the weights so that nothing has to be remembered.

    The defaults scale pixels to [-1, 1], as the authors' TF-slim code does for every MobileNet
    (`preprocessing/inception_preprocessing.py`, `preprocess_for_eval`: minus 0.5, times 2, bilinear; it crops the
    central 87.5 %, which is `resize_size = image_size / 0.875`, 256 for 224). torchvision's weights want ImageNet's
    mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225) instead.

    Attributes:
        image_size: side of the square input in pixels.
        resize_size: the shorter side before the centre crop, in pixels; None stands for `image_size`.
        channels: 3 for RGB, 1 for grey.
        mean: subtracted after scaling to [0, 1]; one value a channel, or one for all.
        std: divided by afterwards, likewise.
        interpolation: `bilinear` or `bicubic`, both with antialiasing.

    Raises:
        DataError: a value it can't have; the message names the field.
    """

    image_size: int
    resize_size: int | None = None
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _require_whole("image_size", self.image_size, 1)
        # None and the one-value forms are shorthand: stored in full, so that equal settings compare equal.
        if self.resize_size is None:
            object.__setattr__(self, "resize_size", self.image_size)
        _require_whole("resize_size", self.resize_size, self.image_size)
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise _bad_field("channels", "3 (RGB) or 1 (grey)", self.channels)
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, self.channels))
        object.__setattr__(self, "std", _per_channel("std", self.std, self.channels))
        if min(self.std) <= 0:
            raise _bad_field("std", "above 0", self.std)
        if self.interpolation not in tuple(_FILTERS):  # a tuple can be asked for what can't be hashed
            raise _bad_field("interpolation", " or ".join(_FILTERS), self.interpolation)

    def arrange(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize the shorter side to `resize_size` and cut out the centre: uint8 `[H, W, C]`, H = W = `image_size`.

        `image` is RGB, as `open_image` returns it. Sizes and offsets are rounded as torchvision's `Resize` and
        `CenterCrop` round them; smaller pictures are enlarged.
        """
        shorter = self.resize_size or self.image_size
        image = _crop_strip(image.convert("L") if self.channels == 1 else image)
        width, height = image.size
        size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
        resized = image.resize(size, _FILTERS[self.interpolation])
        left = round((size[0] - self.image_size) / 2.0)
        top = round((size[1] - self.image_size) / 2.0)
        cropped = resized.crop((left, top, left + self.image_size, top + self.image_size))
        return np.array(cropped, dtype=np.uint8).reshape(self.image_size, self.image_size, self.channels)

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn uint8 `[B, H, W, C]` into the network's input, float32 `[B, C, H, W]`: `(x / 255 - mean) / std`.

        Raises:
            DataError: the array is not uint8 with four dimensions and `channels` channels.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
            given = f"{images.dtype} {list(images.shape)}"
            raise DataError(
                f"normalize takes uint8 [B, H, W, {self.channels}], not {given}: stack what arrange returns"
            )
        scale = np.array([1.0 / (255.0 * std) for std in self.std], dtype=np.float32)[:, None, None]
        shift = np.array([mean / std for mean, std in zip(self.mean, self.std, strict=True)], np.float32)[:, None, None]
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
        planes *= scale
        planes -= shift
        return planes

    def to_dict(self) -> dict[str, object]:
        """Return all fields as JSON can hold them; `from_dict` is the way back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote. Every field must be there: a guessed mean would only show as lost accuracy.

        Raises:
            DataError: a missing or unknown key, or a value it can't have; the message names it.
        """
        known = [field.name for field in fields(cls)]
        for word, keys in (("missing", set(known) - set(data)), ("unknown", set(data) - set(known))):
            if keys:
                listed = ", ".join(sorted(map(repr, keys)))
                raise DataError(f"preprocessing has {word} key {listed}; it consists of {', '.join(known)}")
        return cls(**data)  # type: ignore[arg-type]  # __post_init__ checks every value


def _crop_strip(image: Image.Image) -> Image.Image:
    """Cut an extremely long picture to its middle, before enlarging it could exhaust the memory."""
    width, height = image.size
    longest = _MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))


def _require_whole(field: str, value: object, least: int) -> None:
    if type(value) is not int or not least <= value <= _MAX_SIDE:  # `type`, because True is an int too
        raise _bad_field(field, f"a whole number from {least} to {_MAX_SIDE}", value)


def _per_channel(field: str, value: object, channels: int) -> tuple[float, ...]:
    wanted = f"1 or {channels} finite numbers"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in (1, channels):
        raise _bad_field(field, wanted, value)
    for item in value:
        if not isinstance(item, (int, float)) or isinstance(item, bool) or not math.isfinite(item):
            raise _bad_field(field, wanted, value)
    return tuple(float(item) for item in value) * (channels // len(value))


def _bad_field(field: str, wanted: str, value: object) -> DataError:
    return DataError(f"preprocessing: {field!r} must be {wanted}, not {value!r}")
