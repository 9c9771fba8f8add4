"""The content digests of images: what they are told apart by when a folder is split or a network is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from mobilenets.data.decoding import worker_count
from mobilenets.data.sources import ArraySource, EncodedSource, FileSource, ImageSource, ImageSplit
from mobilenets.errors import BadImagesError
from mobilenets.image_record import Digests, digest_array, digest_of
from mobilenets.limits import open_regular

_CHUNK: Final = 256
_READ_BYTES: Final = 2**20
_READING: Final = "reading images to tell them apart"

Progress = Callable[[str, int, int], None]
"""Told of what takes long: what, how much is done, how much there is."""


def image_digest(source: ImageSource) -> int:
    """The digest of one image's bytes as stored; of an image that can't be read, that of its name.

    Nobody is trained on what can't be read, so all such a digest has to be is the same every time.
    """
    if isinstance(source, FileSource):
        return _file_digest(source)
    if isinstance(source, EncodedSource):
        try:
            return digest_of(source.encoded())
        except BadImagesError:
            return _of_name(source)
    if isinstance(source, ArraySource):
        return digest_of(repr(source.pixels.shape).encode() + source.pixels.tobytes())
    try:
        image = source.open()
    except BadImagesError:
        return _of_name(source)
    return digest_of(repr(image.size).encode() + image.tobytes())


def image_digests(sources: Sequence[ImageSource], progress: Progress | None = None) -> Digests:
    """The digests of images, uint64 `[N]`, in their order; files are read by several threads where that is faster.

    Args:
        sources: the images.
        progress: told of it.
    """
    digests: list[int] = []
    with ThreadPoolExecutor(worker_count(sources), thread_name_prefix="digest") as pool:
        chunks = (sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK))
        for found in pool.map(lambda chunk: [image_digest(one) for one in chunk], chunks):
            digests += found
            if progress is not None:
                progress(_READING, len(digests), len(sources))
    return digest_array(digests)


def with_digests(split: ImageSplit, progress: Progress | None = None) -> ImageSplit:
    """The same images with their digests, which are computed unless they are known."""
    return split if split.digests is not None else replace(split, digests=image_digests(split.sources, progress))


def _file_digest(source: FileSource) -> int:
    digest = blake2b(digest_size=8)
    try:
        with open_regular(source.path) as file:  # a pipe or a device in a folder of images would be read for ever
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
    except OSError:
        return _of_name(source)
    return int.from_bytes(digest.digest(), "big")


def _of_name(source: ImageSource) -> int:
    return digest_of(b"unreadable\0" + source.name.encode("utf-8", "surrogateescape"))
