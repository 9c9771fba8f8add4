"""From an encoded picture to what a training step sees of it, by the shortest way; evaluation never comes here.

The part that is wanted is known before decoding, so a large JPEG is decoded at a reduced scale. What is resized keeps
at least `MARGIN` times the pixels of the result each way: they then differ from those of the full decoding by less than
a grey level on average (benchmarks/loader.py measures it).
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from mobilenets.data.decoding import Box, TrainingDecoding, decode_scaled
from mobilenets.data.sources import MAX_FILE_BYTES, EncodedSource, ImageSource
from mobilenets.image_formats import DeepPixels
from mobilenets.images import ChooseScale, open_scaled
from mobilenets.preprocessing import Preprocessing

MARGIN: Final = 2
"""How many times the pixels of the result, each way, a reduced decoding must leave."""

_STRIP: Final = 16  # beyond this ratio of the sides `Preprocessing.arrange` has a way of its own


def read_training_pixels(
    source: ImageSource, preprocessing: Preprocessing, decoding: TrainingDecoding, draws: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Decode, crop and resize one picture: uint8 `[H, W, C]`, H = W = `image_size`.

    Args:
        source: the picture.
        preprocessing: says size, channels and interpolation.
        decoding: how.
        draws: of the crop, as `RandomCrop.box` takes them; not looked at where nothing is cropped.

    Raises:
        BadImagesError: it can't be read.
    """

    def choose(width: int, height: int) -> int:
        return _divisor(width, height, preprocessing, _box(decoding, draws, width, height)) if decoding.reduced else 1

    pixels, (width, height) = _decode(source, choose, preprocessing.deep)
    if preprocessing.channels == 1:
        pixels = np.array(Image.fromarray(pixels).convert("L"))[:, :, None]
    box = _box(decoding, draws, width, height)
    if box is None:
        return _centre(pixels, (width, height), preprocessing)
    # A crop begins and ends at whole pixels of the scale it may be decoded at, whatever it is decoded at.
    divisor = _divisor(width, height, preprocessing, box)
    step = 1 if pixels.shape[1] < width else divisor
    left, top, right, bottom = (round(edge / divisor) * step for edge in box)
    return _resize(
        pixels[top:bottom, left:right],
        (preprocessing.image_size, preprocessing.image_size),
        preprocessing.interpolation,
    )


def _decode(source: ImageSource, choose: ChooseScale, deep: DeepPixels) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pixels uint8 RGB `[H, W, 3]`, upright, and the picture's width and height at full scale."""
    if not isinstance(source, EncodedSource) or source.size > MAX_FILE_BYTES:
        picture = source.open(deep)
        return np.array(picture), picture.size
    content = source.encoded()
    decoded = decode_scaled(content, choose, source.max_pixels)
    if decoded is not None:
        return decoded
    picture, size = open_scaled(
        io.BytesIO(content), choose, name=source.location, max_pixels=source.max_pixels, deep=deep
    )
    return np.array(picture), size


def _box(decoding: TrainingDecoding, draws: NDArray[np.float64], width: int, height: int) -> Box | None:
    return None if decoding.crop is None else decoding.crop.box(width, height, draws)


def _divisor(width: int, height: int, preprocessing: Preprocessing, box: Box | None) -> int:
    """By how much a picture's scale may be divided: 1, 2, 4 or 8."""
    if box is None:
        side, wanted = min(width, height), preprocessing.resized_side
    else:
        side, wanted = min(box[2] - box[0], box[3] - box[1]), preprocessing.image_size
    return next((divisor for divisor in (8, 4, 2) if side >= divisor * MARGIN * wanted), 1)


def _centre(pixels: NDArray[np.uint8], size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The part that `Preprocessing.arrange` cuts out of the picture in full, of `size`."""
    if max(size) > _STRIP * min(size):
        return preprocessing.arrange(
            Image.fromarray(pixels[:, :, 0] if preprocessing.channels == 1 else pixels).convert("RGB")
        )
    width, height = preprocessing.resized_size(*size)
    side = preprocessing.image_size
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    return _resize(pixels, (height, width), preprocessing.interpolation)[top : top + side, left : left + side]


def _resize(pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Resize `[H, W, C]` to this height and width; Pillow's filters, at a third of its time."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size, mode=interpolation, antialias=True)
    result: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return result
