"""The order of an epoch over shards, decided by its seed alone.

Shards are taken in a new order each epoch and their records read one after the other, as disks and networks like it.
This stream is cut into windows of bounded size, and the records of a window are shuffled among themselves. So the
place of every image in the epoch is known from the index, before anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.shards.shard_set import Shard

WINDOW_BYTES: Final = 128 * 2**20
"""Bytes of shards shuffled together. A constant, since the order of an epoch depends on it.

Two windows are in memory at once, at the change from one to the next three.
"""


@dataclass(frozen=True)
class Order:
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


def epoch_order(shards: Sequence[Shard], seed: int, *, window_bytes: int = WINDOW_BYTES) -> Order:
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
    return Order(seed, order, starts, np.array([*begins, starts[-1]], dtype=np.int64))
