"""Decoding every image once, a thread a core, and keeping about a kilobyte of each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from mobilenets.checkup.inventory import Entry
from mobilenets.data.decoding import worker_count
from mobilenets.data.sources import EncodedSource, ImageSource, encoded_file
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import Header, inspect_image

HASH_SIDE: Final = 32
"""The side an image is reduced to before it is hashed."""
THUMBNAIL_SIDE: Final = 16
"""The side of the tiny image that tells apart what the hash does not."""
FLAT: Final = 2.0
"""Grey values of less spread are one colour with noise: nothing to learn, and one hash for all."""
_LOW: Final = 8


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image in about a kilobyte.

    Attributes:
        header: what its file says of it.
        digest: of its upright RGB pixels and their size: equal ones are the same image, whatever its file.
        hash: 64 bits that change little when the image does; see `perceptual_hash`.
        thumbnail: the image at 16x16, uint8 `[16, 16, 3]`.
        contrast: standard deviation of its grey values, 0 to 127.
    """

    header: Header
    digest: bytes
    hash: int
    thumbnail: NDArray[np.uint8]
    contrast: float


def image_facts(source: ImageSource, deep: DeepPixels = AS_STORED) -> ImageFacts:
    """Decode an image once and keep what a checkup needs; `deep` scales more than 8 bits a sample.

    Raises:
        BadImagesError: it can't be read.
    """
    header, image = _opened(source, deep)
    pixels = np.asarray(image)
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, person=f"{image.width}x{image.height}".encode()[:16])
    # Reducing in whole steps first makes large photographs cheap; what it costs in exactness a hash does not see.
    small = image.resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX, reducing_gap=2)
    grey = np.asarray(small.convert("L"))
    thumbnail = np.asarray(small.reduce(HASH_SIDE // THUMBNAIL_SIDE))
    return ImageFacts(header, digest.digest(), perceptual_hash(grey), thumbnail, float(grey.std()))


def perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """64 bits of a grey image `[32, 32]`: which of its 63 lowest frequencies but the mean lie above their median.

    Compression, resizing, brightness and slight crops change few of them. Source: C. Zauner, "Implementation and
    benchmarking of perceptual image hash functions", 2010, section 3.2.1 (DCT based hash).
    """
    low = dct(dct(grey.astype(np.float32), axis=0, norm="ortho")[:_LOW], axis=1, norm="ortho")[:, :_LOW].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean is brightness
    return int(np.packbits(bits).view(">u8")[0])


def _opened(source: ImageSource, deep: DeepPixels) -> tuple[Header, Image.Image]:
    if (found := encoded_file(source)) is not None:
        location = source.location if isinstance(source, EncodedSource) else None
        return inspect_image(found[0], name=location, max_pixels=found[1], deep=deep)
    image = source.open(deep)
    return Header("pixels", image.mode, image.width, image.height, 1, False), image


_CHUNK: Final = 64


@dataclass(frozen=True, eq=False)
class Examination:
    """What was seen of each entry: its facts, or None and why it can't be read."""

    facts: Sequence[ImageFacts | None]
    bad: dict[int, BadImage]


def examine(
    entries: Sequence[Entry], progress: Callable[[int, int], None] | None = None, deep: DeepPixels = AS_STORED
) -> Examination:
    """Decode every image once.

    Args:
        entries: the images.
        progress: told how many are done, and how many there are.
        deep: how more than 8 bits a sample are scaled.
    """
    stop = threading.Event()

    def facts_of(chunk: Sequence[Entry]) -> list[ImageFacts | BadImage]:
        return [_facts_or_reason(entry, deep) for entry in chunk if not stop.is_set()]

    facts: list[ImageFacts | None] = []
    bad: dict[int, BadImage] = {}
    pool = ThreadPoolExecutor(worker_count([entry.source for entry in entries]), thread_name_prefix="examine")
    chunks = [entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK)]
    try:
        for found in pool.map(facts_of, chunks):
            for one in found:
                if isinstance(one, BadImage):
                    bad[len(facts)] = one
                facts.append(None if isinstance(one, BadImage) else one)
            if progress is not None:
                progress(len(facts), len(entries))
    finally:
        # After Ctrl-C, what has not begun never does, and what has begun ends with the image at hand.
        stop.set()
        pool.shutdown(cancel_futures=True)
    return Examination(facts, bad)


def _facts_or_reason(entry: Entry, deep: DeepPixels) -> ImageFacts | BadImage:
    try:
        return image_facts(entry.source, deep)
    except BadImagesError as error:
        return BadImage(entry.name, error.bad[0].reason)
