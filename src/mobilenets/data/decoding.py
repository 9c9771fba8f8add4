"""Decode many images at once in a pool of threads, telling how far it is and stopping when asked to."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.jpeg import is_whole
from mobilenets.data.sources import MAX_FILE_BYTES, EncodedSource, ImageSource
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.images import check_image, read_size
from mobilenets.machine import usable_cores
from mobilenets.preprocessing import Preprocessing

Progress = Callable[[int, int], None]
"""Called with the images done and the images there are."""

# A task decodes this many images, to make its own cost small, or this many bytes of them, to keep progress steady.
_CHUNK: Final = 64
_CHUNK_BYTES: Final = 4 * 2**20
_PROGRESS_SECONDS: Final = 0.1
# Decoding a picture below this size is mostly Python, which runs one thread at a time: a second only adds switching.
_TINY_BYTES: Final = 8192


def decode_all(
    sources: Sequence[ImageSource],
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8] | None,
    progress: Progress | None,
) -> dict[int, BadImage]:
    """Decode every image, into `pixels` if given, and return the unreadable ones by position.

    Without `pixels` what counts is whether an image can be read, which JPEGs show at a reduced scale too.
    """
    stop = threading.Event()

    def decode(chunk: range) -> tuple[int, dict[int, BadImage]]:
        faults: dict[int, BadImage] = {}
        for index in chunk:
            if stop.is_set():
                break
            try:
                if pixels is not None:
                    pixels[index] = preprocessing.arrange(sources[index].open(preprocessing.deep))
                else:
                    _check(sources[index])
            except BadImagesError as error:
                faults[index] = error.bad[0]
        return len(chunk), faults

    total, done, reported = len(sources), 0, time.monotonic()
    bad: dict[int, BadImage] = {}
    pool = ThreadPoolExecutor(worker_count(sources), thread_name_prefix="decode")
    try:
        for future in as_completed([pool.submit(decode, chunk) for chunk in _chunks(sources)]):
            count, faults = future.result()
            done += count
            bad.update(faults)
            if progress is not None and done < total and time.monotonic() - reported >= _PROGRESS_SECONDS:
                progress(done, total)
                reported = time.monotonic()
    finally:
        # After Ctrl-C, what has not begun never does, and what has begun ends with the image at hand.
        stop.set()
        pool.shutdown(cancel_futures=True)
    if progress is not None:
        progress(total, total)
    return bad


def _check(source: ImageSource) -> None:
    if not isinstance(source, EncodedSource) or source.size > MAX_FILE_BYTES:
        source.open()
        return
    content = source.encoded()
    if is_whole(content, source.max_pixels):
        read_size(
            io.BytesIO(content), name=source.location, max_pixels=source.max_pixels
        )  # exact decoding, by Pillow, is to understand it too
    else:
        check_image(io.BytesIO(content), name=source.location, max_pixels=source.max_pixels)


def _chunks(sources: Sequence[ImageSource]) -> Iterator[range]:
    """Cut the images into tasks of at most `_CHUNK` images and, beyond the first image, `_CHUNK_BYTES` bytes."""
    start = filled = 0
    for index, source in enumerate(sources):
        if index > start and (index - start == _CHUNK or filled + source.size > _CHUNK_BYTES):
            yield range(start, index)
            start, filled = index, 0
        filled += source.size
    if start < len(sources):
        yield range(start, len(sources))


def worker_count(sources: Sequence[ImageSource]) -> int:
    """Return how many threads decode these images fastest: a core each, or one for tiny images."""
    if sum(source.size for source in sources) < _TINY_BYTES * len(sources):
        return 1
    return usable_cores()
