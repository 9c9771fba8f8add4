"""The bytes an image is written into a shard as: its own, wherever that is possible."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from mobilenets.data.sources import EncodedSource, ImageSource
from mobilenets.deep_pixels import AS_STORED, DeepPixels

JPEG_QUALITY: Final = 95
"""Of images that are made smaller: little enough is lost that training does not notice."""


def encoded(source: ImageSource, image_size: int | None, deep: DeepPixels = AS_STORED) -> tuple[str, bytes]:
    """Return an image's format, as a file's extension without dot, and its bytes.

    A file's are copied as they are, once it is known that they can be read. Pixels that a package delivers become PNG,
    which loses nothing. With `image_size`, an image whose shorter side is longer is reduced to it and becomes JPEG,
    more than 8 bits a sample scaled by `deep`.

    Raises:
        BadImagesError: it can't be read.
    """
    image = source.open(deep)
    if image_size is not None and min(image.size) > image_size:
        scale = image_size / min(image.size)
        width, height = (max(image_size, round(side * scale)) for side in image.size)
        return "jpg", _saved(image.resize((width, height), Image.Resampling.LANCZOS), "JPEG", quality=JPEG_QUALITY)
    if isinstance(source, EncodedSource):
        return _suffix(source.name), source.encoded()
    return "png", _saved(image, "PNG")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix[1:].lower()


def _saved(image: Image.Image, format_name: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()
