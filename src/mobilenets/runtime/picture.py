"""What a caller may hand over as a picture, and how each form becomes what its image file would; no PyTorch here."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mobilenets.deep_pixels import AS_STORED, GREY_MODES, DeepPixels
from mobilenets.errors import BadImage, BadImagesError, DataError, first_line
from mobilenets.image_formats import MAX_PIXELS
from mobilenets.images import open_image
from mobilenets.machine import lock_across_forks

Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
"""A path, an image file's content, an open binary file, a picture of Pillow's, or pixels uint8 `[H, W, 3]`,
`[H, W, 4]` (RGBA), `[H, W, 1]` or `[H, W]`."""

TAKEN: Final = "pass a path, bytes, an open binary file, a Pillow image or a NumPy array"
_Opener = Callable[[Path | io.BytesIO], Image.Image]
_PIXELS: Final = "pixels are uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA)"
_CONTENT: Final = (bytes, bytearray, memoryview)
# A picture of Pillow's that is not read yet, or an open file, may be one that several threads were given: each has a
# place in its file, which two readers would move under each other's hands.
_READING: Final = lock_across_forks()


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether this is one picture, rather than several or nothing of the kind."""
    if isinstance(value, np.ndarray):
        return value.ndim != 4
    return isinstance(value, (str, os.PathLike, *_CONTENT, Image.Image)) or hasattr(value, "read")


def open_picture(
    picture: Picture, name: str, max_pixels: int = MAX_PIXELS, deep: DeepPixels = AS_STORED
) -> Image.Image:
    """Return a picture upright and RGB, by the rules of `open_image`. Safe to call from several threads.

    Args:
        picture: in any of its forms.
        name: what errors call it.
        max_pixels: see `open_image`.
        deep: likewise.

    Raises:
        BadImagesError: it can't be read.
        DataError: it is no picture; the message says what is taken.
    """
    read = partial(open_image, name=name, max_pixels=max_pixels, deep=deep)
    if isinstance(picture, (str, os.PathLike)):
        return read(Path(picture))
    if isinstance(picture, _CONTENT):
        return read(io.BytesIO(picture))
    if isinstance(picture, Image.Image):
        return _upright_rgb(picture, name, read)
    if isinstance(picture, np.ndarray):
        return _from_pixels(picture, name, read)
    if hasattr(picture, "read"):
        return read(io.BytesIO(_read(picture, name)))
    raise DataError(f"{name}: a {type(picture).__name__} is no picture; {TAKEN}")


def _read(file: BinaryIO, name: str) -> bytes:
    """All that an open file holds, wherever it stands; of a pipe, what is left."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            with _READING:
                file.seek(0)
                content = file.read()
        else:
            content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise BadImagesError([BadImage(name, first_line(error))]) from error
    if not isinstance(content, bytes):
        raise DataError(f"{name}: a file opened as text is no picture; open it as binary, 'rb'")
    return content


def _upright_rgb(picture: Image.Image, name: str, read: _Opener) -> Image.Image:
    """What `open_image` makes of a file, made of a picture already open; what takes rules it is left to decide."""
    if 0 in picture.size:
        raise BadImagesError([BadImage(name, f"{picture.width}x{picture.height} pixels")])
    try:
        with _READING:
            picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in GREY_MODES:
            return read(_saved(upright, "TIFF"))
        if upright.has_transparency_data:
            return read(_saved(upright.convert("RGBA"), "PNG"))
        return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # of a file opened by the caller but not read to its end
        raise BadImagesError([BadImage(name, first_line(error))]) from error


def _saved(picture: Image.Image, file_format: str) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, file_format)
    return file


def _from_pixels(pixels: NDArray[np.uint8], name: str, read: _Opener) -> Image.Image:
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or 0 in planes.shape:
        raise DataError(f"{name}: {_PIXELS}, not {pixels.dtype} {list(pixels.shape)}")
    if planes.shape[2] == 4:
        return _upright_rgb(Image.fromarray(np.ascontiguousarray(planes)), name, read)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3))))
