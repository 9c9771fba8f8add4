"""The windows of an epoch one after the other, each read in the background while the one before is used."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Final

from mobilenets.data.shards.order import Order
from mobilenets.data.shards.reading import Record
from mobilenets.data.shards.shard_set import Shard, whole_shard

_PATIENCE_SECONDS: Final = 2.0


class WindowFeed:
    """Reads the windows of an epoch from one of them on.

    Args:
        shards: of the data set.
        order: of the epoch.
        window: to begin with.
    """

    def __init__(self, shards: Sequence[Shard], order: Order, window: int) -> None:
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
