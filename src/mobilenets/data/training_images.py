"""What training asks of images: an endless supply of epochs, each in an order of its own that a number decides.

Whoever trains knows nothing of folders, shards or memory: a step is named by the epoch's seed and its place in the
epoch, so a run that was killed asks for the very batch it was at, and several processes ask for parts of the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mobilenets.preprocessing import Preprocessing

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
    """Cut an epoch's order of images into batches as `TrainingImages.epoch` promises; left-over ones are left out."""
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
