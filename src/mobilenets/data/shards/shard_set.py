"""The shards of one split: where they are and how many images each holds, but none of the images."""

from __future__ import annotations

import io
import tempfile
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image

from mobilenets.data.shards.reading import Record, read_shard
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import MAX_PIXELS, open_image, read_size
from mobilenets.progress import Update


class Spool:
    """A file without a name, which goes with the process; written once, then read from any thread."""

    def __init__(self) -> None:
        # A file, not memory: the system keeps in memory what it has space for, and takes it back when others ask.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._lock = threading.Lock()
        self._end = 0
        weakref.finalize(self, self._file.close)

    def add(self, name: str, content: bytes, max_pixels: int = MAX_PIXELS) -> SpooledImage:
        """Keep an encoded image.

        Raises:
            DataError: the disk is full.
        """
        try:
            with self._lock:
                self._file.seek(self._end)
                self._file.write(content)
                self._file.flush()
        except OSError as error:
            raise DataError(
                f"{name} can't be copied to {tempfile.gettempdir()} ({error.strerror or error}): free space there, or "
                "set TMPDIR to a folder on a larger disk"
            ) from error
        self._end += len(content)
        return SpooledImage(self, name, self._end - len(content), len(content), max_pixels)

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at `offset`."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


@dataclass(frozen=True, slots=True, eq=False)
class SpooledImage:
    """An image in a spool; an `EncodedSource`."""

    spool: Spool
    name: str
    offset: int
    size: int
    max_pixels: int = MAX_PIXELS

    @property
    def location(self) -> str:
        """See `EncodedSource`."""
        return self.name

    def encoded(self) -> bytes:
        """See `EncodedSource`."""
        return self.spool.read(self.offset, self.size)

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        """See `ImageSource`."""
        return open_image(io.BytesIO(self.encoded()), name=self.name, max_pixels=self.max_pixels, deep=deep)

    def read_size(self) -> tuple[int, int]:
        """See `ImageSource`."""
        return read_size(io.BytesIO(self.encoded()), name=self.name, max_pixels=self.max_pixels)


SAMPLE_IMAGES: Final = 2048
SAMPLE_BYTES: Final = 256 * 2**20
SAMPLE_SHARDS: Final = 16
"""Of how many shards a sample is taken, for those of others may be sorted by class."""
_TOLD_EVERY: Final = 250


@dataclass(frozen=True)
class Shard:
    """One shard: its path or URL, how many images it holds, its size in bytes, and the pixels an image may have."""

    address: str
    images: int
    bytes: int
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class ShardSet:
    """Shards of one split.

    Attributes:
        shards: in the order of their names.
        labels: class index of each label as the shards write it.
        class_counts: images of each class, where they are known: of all shards of the split, also those left out here.
    """

    shards: tuple[Shard, ...]
    labels: Mapping[str, int]
    class_counts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(shard.images for shard in self.shards)

    def held_out(self, fraction: float, seed: int) -> tuple[ShardSet, ImageSplit]:
        """Part whole shards off for validation: the others, and the images of those taken.

        As many shards are taken, in an order chosen by `seed`, as come nearest to `fraction` of the images; at least
        one and never all. Written by `shard`, each is a fair sample of all classes. A `sample` taken before may hold
        some of them: take it from the others.

        Raises:
            DataError: there is one shard only.
        """
        rest, taken = self.parted(fraction, seed)
        return rest, taken.load()

    def parted(self, fraction: float, seed: int) -> tuple[ShardSet, ShardSet]:
        """The same as two sets of shards.

        Raises:
            DataError: see `held_out`.
        """
        if len(self.shards) < 2:
            raise DataError(
                f"{self.shards[0].address} is the only training shard, but whole shards are held out: shard the images "
                "with a smaller `images_per_shard`"
            )
        order = np.random.default_rng(seed).permutation(len(self.shards))
        sums = np.cumsum([self.shards[place].images for place in order[:-1]])
        count = int(np.abs(sums - fraction * len(self)).argmin()) + 1
        taken = set(order[:count].tolist())
        parts: list[tuple[Shard, ...]] = [
            tuple(shard for place, shard in enumerate(self.shards) if (place in taken) == inside)
            for inside in (False, True)
        ]
        return replace(self, shards=parts[0]), replace(self, shards=parts[1])

    def load(self, progress: Update | None = None) -> ImageSplit:
        """Copy all images, still encoded, to where any of them can be had at once.

        Args:
            progress: told of it.

        Raises:
            DataError: a shard that can't be read or is not what the index says; a full disk.
        """
        return self._spooled(self._all(progress))

    def sample(self) -> ImageSplit:
        """The same of a few images, as many from each of a few shards, for what needs no more than an impression.

        Raises:
            DataError: see `load`.
        """
        return self._spooled(self._few())

    def label(self, record: Record) -> int:
        """Class index of a record.

        Raises:
            DataError: it is of no known class.
        """
        if record.label not in self.labels:
            raise DataError(
                f"{record.name} has the label {record.label!r}, which the index does not know: the shards have "
                "changed, write or count them anew"
            )
        return self.labels[record.label]

    def _spooled(self, records: Iterator[Record]) -> ImageSplit:
        spool = Spool()
        labels: list[int] = []
        sources = []
        for record in records:
            labels.append(self.label(record))
            sources.append(spool.add(record.name, record.content, record.max_pixels))
        return ImageSplit(sources, np.array(labels, dtype=np.int64))

    def _all(self, progress: Update | None) -> Iterator[Record]:
        done, total = 0, len(self)
        for shard in self.shards:
            for record in whole_shard(shard):
                yield record
                done += 1
                if progress is not None and (done % _TOLD_EVERY == 0 or done == total):
                    progress("copying images from shards", done, total)

    def _few(self) -> Iterator[Record]:
        count = min(SAMPLE_SHARDS, len(self.shards))
        places = np.linspace(0, len(self.shards) - 1, count).astype(int)
        most, most_bytes = -(-SAMPLE_IMAGES // count), SAMPLE_BYTES // count
        for place in places:
            taken = size = 0
            records = read_shard(self.shards[place].address, self.shards[place].max_pixels)
            for record in records:
                yield record
                taken, size = taken + 1, size + record.size
                if taken == most or size >= most_bytes:
                    break
            records.close()


def whole_shard(shard: Shard) -> Generator[Record]:
    """Yield the records of a shard, and see that they are as many as its index says.

    A tar file that ends between two of its members looks whole to every reader.

    Raises:
        DataError: see `read_shard`, or it holds more or fewer.
    """
    count = 0
    for record in read_shard(shard.address, shard.max_pixels):
        count += 1
        if count > shard.images:
            break
        yield record
    if count != shard.images:
        more = "more" if count > shard.images else f"{count:,}"
        raise DataError(
            f"shard {shard.address} holds {more} images, not {shard.images:,} as its index says: it was changed or not "
            "copied to its end; get it anew"
        )
