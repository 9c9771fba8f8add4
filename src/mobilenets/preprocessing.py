"""From a picture to a network's input, with Pillow and NumPy only: training, exported files and runtimes share it.

`Preprocessing` resizes, crops and normalizes what `images.open_image` reads, and travels with the weights as a small
dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilenets.errors import DataError
from mobilenets.image_formats import AS_STORED, SAMPLE_BITS, DeepPixels

_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_SIDE: Final = 4096
# A picture longer than this many times its shorter side is cropped before it is resized: enlarging a 1x60000 strip
# to a shorter side of 224 would take 9 GB, of which the centre crop keeps a millionth.
_MAX_ASPECT: Final = 16
_LATER: Final = {"sample_bits": AS_STORED.bits, "float_white": AS_STORED.float_white}
"""Fields that came later, with what they are where they are missing: what images were read by before."""


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
        sample_bits: how many bits 16-bit images hold, found in the training images; see `mobilenets.image_formats`.
        float_white: the value of images of floats that is white, likewise; None scales each of them by itself.

    Raises:
        DataError: a value it can't have; the message names the field.
    """

    image_size: int
    resize_size: int | None = None
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    interpolation: str = "bilinear"
    sample_bits: int = AS_STORED.bits
    float_white: float | None = AS_STORED.float_white

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
        if type(self.sample_bits) is not int or self.sample_bits not in SAMPLE_BITS:
            raise _bad_field("sample_bits", f"one of {', '.join(map(str, SAMPLE_BITS))}", self.sample_bits)
        if self.float_white is not None and not _is_positive(self.float_white):
            raise _bad_field("float_white", "null or a number above 0", self.float_white)

    @property
    def deep(self) -> DeepPixels:
        """How pictures with more than 8 bits a sample are scaled to 8 bits, for `open_image`."""
        return DeepPixels(self.sample_bits, self.float_white)

    def scaling(self, deep: DeepPixels) -> Self:
        """The same with another rule for pictures of more than 8 bits a sample."""
        return replace(self, sample_bits=deep.bits, float_white=deep.float_white)

    def arrange(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize the shorter side to `resize_size` and cut out the centre: uint8 `[H, W, C]`, H = W = `image_size`.

        `image` is RGB, as `open_image` returns it. Sizes and offsets are rounded as torchvision's `Resize` and
        `CenterCrop` round them; smaller pictures are enlarged.
        """
        image = _crop_strip(image.convert("L") if self.channels == 1 else image)
        size = self.resized_size(*image.size)
        resized = image.resize(size, _FILTERS[self.interpolation])
        left = round((size[0] - self.image_size) / 2.0)
        top = round((size[1] - self.image_size) / 2.0)
        cropped = resized.crop((left, top, left + self.image_size, top + self.image_size))
        return np.array(cropped, dtype=np.uint8).reshape(self.image_size, self.image_size, self.channels)

    @property
    def resized_side(self) -> int:
        """The shorter side before the centre crop, in pixels."""
        return self.resize_size or self.image_size

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that a picture of these is resized to before the centre crop."""
        shorter = self.resized_side
        return (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)

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
        """Return the fields as JSON can hold them; `from_dict` is the way back.

        The rule for more than 8 bits is left out where it is the usual one, as it was for all before it could differ.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = [name for name, value in _LATER.items() if values[name] == value]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in usual
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote. Every field it always writes must be there: a guessed mean shows in accuracy only.

        Raises:
            DataError: a missing or unknown key, or a value it can't have; the message names it.
        """
        known = [field.name for field in fields(cls)]
        for word, keys in (("missing", set(known) - set(_LATER) - set(data)), ("unknown", set(data) - set(known))):
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


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _bad_field(field: str, wanted: str, value: object) -> DataError:
    return DataError(f"preprocessing: {field!r} must be {wanted}, not {value!r}")
