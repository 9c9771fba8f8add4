"""Decode images once, check every one of them, and hand them out in batches.

Small data sets stay in memory as uint8 pixels, so an epoch costs no decoding. Larger ones are decoded again for each
batch by a pool of threads, one batch ahead of the network: for evaluation exactly, for training by the shortest way
(`mobilenets.data.training_pixels`) where it is asked for.

Training asks for epochs, each in an order of its own that a number decides, and knows nothing of folders, shards or
memory: a step is named by the epoch's seed and its place in the epoch. So a run that was killed asks for the very batch
it was at, and several processes ask for parts of the same one.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.decoding import TrainingDecoding, decode_all, draw, worker_count
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.machine import local_processes, usable_memory
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Count

TrainingBatch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images uint8 `[B, H, W, C]` and their class indices int64 `[B]`."""


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes: the `index`-th of `count` equal ones."""

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> range:
        """Places within a batch of `batch_size` images, which `count` divides."""
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


WHOLE = Share()
"""One process takes all of a batch."""


def epoch_batches(
    order: NDArray[np.int64], batch_size: int, *, first: int = 0, share: Share = WHOLE
) -> Iterator[NDArray[np.int64]]:
    """Cut an epoch's order of images into batches as `TrainingImages.epoch` guarantees; left-over ones are left out."""
    rows = share.rows(batch_size)
    starts = range(first * batch_size, len(order) // batch_size * batch_size, batch_size)
    return (order[start + rows.start : start + rows.stop] for start in starts)


class TrainingImages(Protocol):
    """Images to train on; `PreparedImages` keeps a folder's, others stream."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How the images are arranged."""

    def __len__(self) -> int:
        """How many images an epoch has to draw from."""

    def epoch(self, seed: int, batch_size: int, *, first: int = 0, share: Share = WHOLE) -> Iterator[TrainingBatch]:
        """Yield the batches of one epoch from step `first` on, `len(self) // batch_size` in all.

        The same `seed` and `batch_size` give the same batches, wherever an epoch is entered and however it is shared:
        the shares put one behind the other are the batch that one process would get. Left-over images are left out.

        Args:
            seed: of the epoch's order.
            batch_size: images of a batch over all processes.
            first: the step to begin with, counted from 0.
            share: which part of each batch to yield.

        Raises:
            BadImagesError: an image that can't be read any more.
        """


MEMORY_LIMIT: Final = 2 * 2**30
"""Bytes of pixels kept in memory by default, or less on a small machine: see `default_memory_limit`.

2 GiB hold CIFAR-10 eleven times over, or 14,000 pictures at 224x224.
"""
_kept = 0
"""Bytes of pixels that this process keeps now, of all splits together."""

Indices = Sequence[int] | NDArray[np.int64]
_Reader = Callable[[np.intp], NDArray[np.uint8]]


class PreparedImages:
    """Images that are known to be readable, arranged as the network wants them. Made by `prepare`.

    Attributes:
        labels: class indices, int64 `[N]`.
        names: the images' names within the data set, N of them.
        skipped: the images that could not be read and were left out on request.
        preprocessing: how they were arranged.
    """

    def __init__(
        self,
        split: ImageSplit,
        preprocessing: Preprocessing,
        *,
        skipped: tuple[BadImage, ...] = (),
        pixels: NDArray[np.uint8] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.labels = split.labels
        self.names = tuple(source.name for source in split.sources)
        self.skipped = skipped
        self.preprocessing = preprocessing
        self._sources = split.sources
        self._pixels = pixels
        self._rows = rows if rows is not None else np.arange(len(split), dtype=np.int64)
        self._workers = worker_count(split.sources)
        self._pool: ThreadPoolExecutor | None = None
        self._decoding: TrainingDecoding | None = None

    def for_training(self, decoding: TrainingDecoding) -> PreparedImages:
        """Return the same images with epochs that are decoded in this way.

        Without a crop, epochs stay exact where pixels are kept, or where no reduced scale is allowed.
        """
        images = copy.copy(self)
        differs = decoding.crop is not None or (decoding.reduced and not self.in_memory)
        images._decoding = decoding if differs else None
        return images

    @property
    def decoded_by(self) -> str:
        """What decodes the images of an epoch, in words: another one may give slightly other pixels."""
        return "exactly" if self._decoding is None else str(self._decoding)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are kept, rather than decoded for each batch."""
        return self._pixels is not None

    def batch(self, indices: Indices) -> NDArray[np.uint8]:
        """Return the images at `indices`, in that order: uint8 `[B, H, W, C]`, a copy.

        Raises:
            BadImagesError: an image that could be read before and now can't; only where pixels are not kept.
        """
        return self._start(np.asarray(indices, dtype=np.int64)).result()

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield all images and labels in order, for evaluation: uint8 `[B, H, W, C]` and int64 `[B]`.

        The last batch holds what is left.

        Raises:
            DataError: `batch_size` is below 1.
            BadImagesError: see `batch`.
        """
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, not {batch_size}")
        positions = np.arange(len(self), dtype=np.int64)
        return self.stream(positions[start : start + batch_size] for start in range(0, len(self), batch_size))

    def epoch(self, seed: int, batch_size: int, *, first: int = 0, share: Share = WHOLE) -> Iterator[TrainingBatch]:
        """See `TrainingImages`."""
        order = np.random.default_rng(seed).permutation(len(self))
        batches = epoch_batches(order, batch_size, first=first, share=share)
        if self._decoding is None:
            return self.stream(batches)
        decoding, rows = self._decoding, share.rows(batch_size)

        def start(step: int, indices: NDArray[np.int64]) -> _Batch:
            draws = draw(seed, step, batch_size)[rows.start : rows.stop]
            return self._decode(indices, self._training_reader(indices, decoding, draws))

        return self._ahead(start(step, indices) for step, indices in enumerate(batches, first))

    def stream(self, index_batches: Iterable[Indices]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield images and labels of each batch of indices, for training: uint8 `[B, H, W, C]` and int64 `[B]`.

        While the caller works on one batch the next is being decoded, so one index batch more than was asked for is
        taken from `index_batches`. Stopping early is fine.

        Raises:
            BadImagesError: see `batch`.
        """
        return self._ahead(self._start(np.asarray(indices, dtype=np.int64)) for indices in index_batches)

    def _ahead(self, started: Iterator[_Batch]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield batches, each while the next has been started."""
        current: _Batch | None = None
        upcoming: _Batch | None = None
        try:
            for upcoming in started:
                if current is not None:
                    yield current.result(), self.labels[current.indices]
                current, upcoming = upcoming, None
            if current is not None:
                yield current.result(), self.labels[current.indices]
        finally:
            for batch in (current, upcoming):
                if batch is not None:
                    batch.cancel()

    def _start(self, indices: NDArray[np.int64]) -> _Batch:
        """Begin decoding a batch exactly, or copy it out of memory."""
        if self._pixels is not None:
            return _Batch(indices, self._pixels[self._rows[indices]], (), threading.Event())
        deep = self.preprocessing.deep
        return self._decode(indices, lambda place: self.preprocessing.arrange(self._sources[indices[place]].open(deep)))

    def _training_reader(
        self, indices: NDArray[np.int64], decoding: TrainingDecoding, draws: NDArray[np.float64]
    ) -> _Reader:
        # Not before an epoch needs it: it imports PyTorch, which exact decoding does without.
        from mobilenets.data.training_pixels import read_training_pixels

        return lambda place: read_training_pixels(
            self._sources[indices[place]], self.preprocessing, decoding, draws[place]
        )

    def _decode(self, indices: NDArray[np.int64], read: _Reader) -> _Batch:
        """Begin decoding a batch, each image by its place in it."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        out = np.empty((len(indices), *_shape(self.preprocessing)), dtype=np.uint8)
        # A few tasks a thread, so that one with large pictures does not keep the others waiting.
        parts = np.array_split(np.arange(len(indices)), min(len(indices), 4 * self._workers) or 1)
        stop = threading.Event()

        def decode(places: NDArray[np.intp]) -> None:
            for place in places:
                if stop.is_set():
                    return
                out[place] = read(place)

        return _Batch(indices, out, [self._pool.submit(decode, part) for part in parts], stop)


class _Batch:
    """Pixels on their way: `result` waits for them."""

    def __init__(
        self,
        indices: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        futures: Sequence[Future[None]],
        stop: threading.Event,
    ) -> None:
        self.indices = indices
        self._pixels = pixels
        self._futures = futures
        self._stop = stop

    def result(self) -> NDArray[np.uint8]:
        for future in self._futures:
            future.result()
        return self._pixels

    def cancel(self) -> None:
        self._stop.set()  # for tasks under way, which can't be cancelled
        for future in self._futures:
            future.cancel()


def default_memory_limit() -> int:
    """Return how many more bytes of pixels to keep, beside those of other splits that this process keeps already.

    All in all `MEMORY_LIMIT`, but at most a quarter of the memory that may be used here, and of that an equal share for
    each process of a training on this machine.
    """
    memory = usable_memory()
    limit = MEMORY_LIMIT if memory is None else min(MEMORY_LIMIT, memory // 4)
    return max(0, limit // local_processes() - _kept)


def _keep_pixels(shape: tuple[int, ...], limit: int) -> NDArray[np.uint8] | None:
    """Space for pixels where they fit; it counts as kept until nothing refers to it any more."""
    size = int(np.prod(shape, dtype=np.int64))
    if size > limit:
        return None
    pixels = np.empty(shape, dtype=np.uint8)
    _count_kept(size)
    weakref.finalize(pixels, _count_kept, -size)
    return pixels


def _count_kept(size: int) -> None:
    global _kept  # one count a process is what is meant
    _kept += size


def prepare(
    split: ImageSplit,
    preprocessing: Preprocessing,
    *,
    skip_bad: bool = False,
    progress: Count | None = None,
    memory_limit: int | None = None,
    every_class: bool = True,
) -> PreparedImages:
    """Decode every image once, to know before training that all can be read, and keep the pixels if they fit.

    Args:
        split: the images and their labels.
        preprocessing: how to arrange them.
        skip_bad: leave unreadable images out, instead of raising; they are in `skipped` then.
        progress: told how far it is, from the calling thread, at most ten times a second and once at the end.
        memory_limit: bytes the arranged pixels may take; beyond that they are decoded anew for each
            batch. By default `default_memory_limit()`.
        every_class: refuse where a class loses its last image; validation images do without a class.

    Raises:
        BadImagesError: images that can't be read: all of them, in the data set's order.
        DataError: leaving the unreadable images out leaves a class without any.
    """
    if memory_limit is None:
        memory_limit = default_memory_limit()
    pixels = _keep_pixels((len(split), *_shape(preprocessing)), memory_limit)
    bad = decode_all(split.sources, preprocessing, pixels, progress)
    if not bad:
        return PreparedImages(split, preprocessing, pixels=pixels)
    skipped = tuple(bad[index] for index in sorted(bad))
    if not skip_bad:
        raise BadImagesError(skipped)
    kept = np.setdiff1d(np.arange(len(split), dtype=np.int64), np.array(sorted(bad), dtype=np.int64))
    lost = np.setdiff1d(split.labels, split.labels[kept])
    if len(lost) and every_class:
        listed = [image for index, image in sorted(bad.items()) if split.labels[index] in lost]
        names = ", ".join(image.name for image in listed[:3]) + (", ..." if len(listed) > 3 else "")
        raise DataError(f"left without {names}, which can't be read, a class has no image: add readable ones to it")
    # `rows` keeps the places of the pixels that stay: compacting the array would need it twice in memory.
    return PreparedImages(split.take(kept), preprocessing, skipped=skipped, pixels=pixels, rows=kept)


def _shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    return preprocessing.image_size, preprocessing.image_size, preprocessing.channels
