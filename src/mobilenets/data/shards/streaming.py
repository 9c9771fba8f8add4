"""Training images that stream out of shards: `TrainingImages` for what no folder and no memory holds.

What is in memory at any time is two windows of encoded images and two batches of pixels, however many there are.

The order of an epoch is decided by its seed alone. Shards are taken in a new order each epoch and their records read
one after the other, as disks and networks like it. This stream is cut into windows of bounded size, and the records of
a window are shuffled among themselves, so the place of every image in the epoch is known from the index before anything
is read. Each window is read in the background while the one before is used.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.decoding import TrainingDecoding, draw, worker_count
from mobilenets.data.loader import WHOLE, Share, TrainingBatch
from mobilenets.data.shards.reading import Record
from mobilenets.data.shards.shard_set import Shard, ShardSet, whole_shard
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.preprocessing import Preprocessing

WINDOW_BYTES: Final = 128 * 2**20
"""Bytes of shards shuffled together. A constant, since the order of an epoch depends on it.

Two windows are in memory at once, at the change from one to the next three.
"""


@dataclass(frozen=True)
class EpochOrder:
    """An epoch's order.

    Attributes:
        seed: of the epoch.
        shards: places of the shards in the order they are read.
        starts: place in the stream where each of them begins, and last the stream's end: int64 `[shards + 1]`.
        windows: place where each window begins, and last the stream's end: int64 `[windows + 1]`.
    """

    seed: int
    shards: NDArray[np.int64]
    starts: NDArray[np.int64]
    windows: NDArray[np.int64]

    def window_at(self, place: int) -> int:
        """The window that holds a place of the epoch."""
        return int(np.searchsorted(self.windows, place, side="right")) - 1

    def shuffled(self, window: int) -> NDArray[np.int64]:
        """Which of the window's records, counted as they are read, comes at each of its places."""
        count = int(self.windows[window + 1] - self.windows[window])
        return np.random.default_rng([self.seed, 1 + window]).permutation(count)


def epoch_order(shards: Sequence[Shard], seed: int, *, window_bytes: int = WINDOW_BYTES) -> EpochOrder:
    """Decide the order of one epoch.

    Windows are made of whole shards, as many as `window_bytes` hold; a shard larger than that is cut into equal ones.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(shards))
    images = np.array([shards[place].images for place in order], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(images)])
    begins = [0]
    filled = 0
    for place, start in zip(order, starts, strict=False):
        size = shards[place].bytes
        if filled and filled + size > window_bytes:
            begins.append(int(start))
            filled = 0
        filled += size
        parts = min(-(-size // window_bytes), shards[place].images)
        begins += [int(start) + shards[place].images * part // parts for part in range(1, parts)]
    return EpochOrder(seed, order, starts, np.array([*begins, starts[-1]], dtype=np.int64))


_PATIENCE_SECONDS: Final = 2.0


class WindowFeed:
    """Reads the windows of an epoch from one of them on.

    Args:
        shards: of the data set.
        order: of the epoch.
        window: to begin with.
    """

    def __init__(self, shards: Sequence[Shard], order: EpochOrder, window: int) -> None:
        self._order = order
        self._last = len(order.windows) - 2
        self._stop = threading.Event()
        self._records = self._stream(shards, int(order.windows[window]))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._number = window
        self._current: list[Record] | None = None
        self._next = self._read(window)

    def window(self, number: int) -> list[Record]:
        """Return a window's records, shuffled; windows can be asked for in ascending order only.

        Raises:
            DataError: a shard that can't be read.
        """
        while self._current is None or self._number < number:
            self._number += self._current is not None
            self._current = None  # let go of the old one before the one after the next is begun
            self._current = self._next.result()
            if self._number < self._last:
                self._next = self._read(self._number + 1)
        return self._current

    def close(self) -> None:
        """Stop reading; a shard being read is left at its next record.

        A server that does not answer is not waited for: a state may have to be saved in time.
        """
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        # One that was cancelled never began, and `wait` would wait for it to be told so.
        if self._next.cancelled() or wait([self._next], _PATIENCE_SECONDS).done:
            self._records.close()

    def _read(self, number: int) -> Future[list[Record]]:
        return self._pool.submit(self._window, number)

    def _window(self, number: int) -> list[Record]:
        shuffled = self._order.shuffled(number)
        records = list(islice(self._records, len(shuffled)))
        return [] if self._stop.is_set() else [records[place] for place in shuffled]

    def _stream(self, shards: Sequence[Shard], start: int) -> Generator[Record]:
        """All records from one place of the stream on; of the shard it lies in, those before are read past."""
        starts = self._order.starts
        for place, first, end in zip(self._order.shards, starts[:-1], starts[1:], strict=True):
            if end <= start:
                continue
            for record in islice(whole_shard(shards[place]), max(0, start - int(first)), None):
                if self._stop.is_set():
                    return
                yield record


_Read = Callable[[Record, NDArray[np.float64]], NDArray[np.uint8]]
"""From a record, and the draws of its crop, to pixels `[H, W, C]`."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place of the epoch: a record of a window, which those after it stand in for if it can't be read."""

    window: Sequence[Record]
    place: int


class ShardImages:
    """Streams the images of shards, arranged as the network wants them.

    Unlike those of a folder they were not all looked at beforehand. Where `skip_bad` is on, one that can't be read is
    replaced by the next of its window that can, so that batches stay whole and the same on every process.

    Args:
        shards: what to stream.
        preprocessing: how the images are arranged.
        skip_bad: go on without images that can't be read, instead of stopping.
        told: called once with each image that was left out, from the thread that asks for batches.
        window_bytes: of shards that are shuffled together; epochs of another size are in another order.
    """

    def __init__(
        self,
        shards: ShardSet,
        preprocessing: Preprocessing,
        *,
        skip_bad: bool = False,
        told: Callable[[BadImage], None] | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self.shards = shards
        self.preprocessing = preprocessing
        self.window_bytes = window_bytes
        self._skip_bad = skip_bad
        self._told = told
        self._skipped: dict[str, BadImage] = {}
        self._decoding: TrainingDecoding | None = None

    def for_training(self, decoding: TrainingDecoding) -> ShardImages:
        """See `PreparedImages.for_training`; exact where no reduced scale is allowed and nothing is cropped."""
        images = copy.copy(self)
        images._decoding = decoding if decoding.crop is not None or decoding.reduced else None
        return images

    @property
    def decoded_by(self) -> str:
        """See `PreparedImages.decoded_by`."""
        return "exactly" if self._decoding is None else str(self._decoding)

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """Images met so far that could not be read and were left out on request."""
        return tuple(self._skipped.values())

    def epoch(self, seed: int, batch_size: int, *, first: int = 0, share: Share = WHOLE) -> Iterator[TrainingBatch]:
        """See `TrainingImages`.

        Every process reads all shards that its places lie in, and decodes only its own share.

        Raises:
            DataError: a shard that can't be read any more; see `read_shard`.
        """
        order = epoch_order(self.shards.shards, seed, window_bytes=self.window_bytes)
        steps = range(first, len(self) // batch_size)
        if not steps:
            return
        rows = share.rows(batch_size)
        feed = WindowFeed(self.shards.shards, order, order.window_at(first * batch_size + rows.start))
        pool: ThreadPoolExecutor | None = None
        current: _Batch | None = None
        upcoming: _Batch | None = None
        try:
            for step in steps:
                places = range(step * batch_size + rows.start, step * batch_size + rows.stop)
                spots = []
                for place in places:
                    number = order.window_at(place)
                    spots.append(_Spot(feed.window(number), place - int(order.windows[number])))
                if pool is None:
                    workers = worker_count(feed.window(order.window_at(places[-1])))
                    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
                draws = draw(seed, step, batch_size)[rows.start : rows.stop]
                upcoming = self._start(spots, draws, pool, workers)
                if current is not None:
                    yield self._finished(current)
                current, upcoming = upcoming, None
            if current is not None:
                yield self._finished(current)
        finally:
            for batch in (current, upcoming):
                if batch is not None:
                    batch.cancel()
            feed.close()
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def _start(
        self, spots: Sequence[_Spot], draws: NDArray[np.float64], pool: ThreadPoolExecutor, workers: int
    ) -> _Batch:
        """Begin decoding a batch; `draws` decide the crops."""
        read = self._reader()
        size = self.preprocessing.image_size
        pixels = np.empty((len(spots), size, size, self.preprocessing.channels), dtype=np.uint8)
        labels = np.empty(len(spots), dtype=np.int64)
        stop = threading.Event()

        def decode(rows: NDArray[np.intp]) -> list[BadImage]:
            bad: list[BadImage] = []
            for row in rows:
                if stop.is_set():
                    break
                pixels[row], labels[row] = self._decode(spots[row], read, draws[row], bad)
            return bad

        # A few tasks a thread, so that one with large pictures does not keep the others waiting.
        parts = np.array_split(np.arange(len(spots)), min(len(spots), 4 * workers) or 1)
        return _Batch(pixels, labels, [pool.submit(decode, part) for part in parts], stop)

    def _reader(self) -> _Read:
        """What turns a record and its crop's draws into pixels `[H, W, C]`."""
        decoding = self._decoding
        if decoding is None:
            return lambda record, _: self.preprocessing.arrange(record.open(self.preprocessing.deep))
        # Not before an epoch needs it: it imports PyTorch.
        from mobilenets.data.training_pixels import read_training_pixels

        return lambda record, draws: read_training_pixels(record, self.preprocessing, decoding, draws)

    def _decode(
        self, spot: _Spot, read: _Read, draws: NDArray[np.float64], bad: list[BadImage]
    ) -> tuple[NDArray[np.uint8], int]:
        """Pixels `[H, W, C]` and label of a record, or of the next in its window that can be read."""
        count = len(spot.window)
        for place in range(spot.place, spot.place + count):
            record = spot.window[place % count]
            try:
                return read(record, draws), self.shards.label(record)
            except BadImagesError as error:
                if not self._skip_bad:
                    raise
                bad += error.bad
        raise BadImagesError(bad)

    def _finished(self, batch: _Batch) -> TrainingBatch:
        """Wait for a batch, and tell of what it had to leave out."""
        for future in batch.futures:
            for image in future.result():
                if image.name not in self._skipped:
                    self._skipped[image.name] = image
                    if self._told is not None:
                        self._told(image)
        return batch.pixels, batch.labels


@dataclass(frozen=True, eq=False)
class _Batch:
    """Images on their way."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    futures: Sequence[Future[list[BadImage]]]
    stop: threading.Event

    def cancel(self) -> None:
        self.stop.set()  # for tasks under way, which can't be cancelled
        for future in self.futures:
            future.cancel()
