"""Writing one shard, with webdataset's writer of tar files: the same images give the same bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from webdataset.writer import TarWriter

from mobilenets.data.decoding import worker_count
from mobilenets.data.shards.encoding import encoded
from mobilenets.data.shards.index import ShardEntry, Split
from mobilenets.data.shards.journal import Finished
from mobilenets.data.sources import ImageSource, ImageSplit
from mobilenets.deep_pixels import AS_STORED, DeepPixels
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.files import write_atomically

_CHUNK: Final = 64  # images whose bytes are in memory together
_ODD: Final = re.compile(r"[^A-Za-z0-9-]+")
_NAME_LENGTH: Final = 60


class ShardFile:
    """One shard to be written.

    Args:
        name: of the file.
        split: what its images are for.
        images: which they are.
        classes: how many classes there are.
    """

    def __init__(self, name: str, split: Split, images: ImageSplit, classes: int) -> None:
        self.name = name
        self.split = split
        self.images = images
        self._counts = np.zeros(classes, dtype=np.int64)
        self._digest = hashlib.sha256()
        self._bad: list[BadImage] = []

    def write(
        self,
        folder: Path,
        *,
        image_size: int | None,
        skip_bad: bool,
        progress: Callable[[int], None],
        deep: DeepPixels = AS_STORED,
    ) -> Finished:
        """Write the shard, whole or not at all.

        Args:
            folder: where to.
            image_size: see `encoded`.
            skip_bad: leave unreadable images out.
            progress: told how many images are done.
            deep: see `encoded`.

        Raises:
            BadImagesError: images can't be read, all of this shard; or none of it can.
            RunError: the folder can't be written.
        """
        path = folder / self.name

        def fill(temporary: Path) -> None:
            with temporary.open("wb") as file, TarWriter(file, encoder=False, mtime=0, user="", group="") as tar:
                self._fill(tar, image_size, deep, progress)
            if self._bad and not (skip_bad and self._counts.any()):
                raise BadImagesError(self._bad)

        write_atomically(path, fill)
        count = int(self._counts.sum())
        entry = ShardEntry(self.name, self.split, count, path.stat().st_size, self._digest.hexdigest())
        return Finished(entry, tuple(self._counts.tolist()))

    def _fill(self, tar: TarWriter, image_size: int | None, deep: DeepPixels, progress: Callable[[int], None]) -> None:
        sources = self.images.sources

        def read(source: ImageSource) -> tuple[str, bytes] | BadImage:
            try:
                return encoded(source, image_size, deep)
            except BadImagesError as error:
                return error.bad[0]

        with ThreadPoolExecutor(worker_count(sources), thread_name_prefix="encode") as pool:
            for start in range(0, len(sources), _CHUNK):
                chunk = sources[start : start + _CHUNK]
                for place, found in enumerate(pool.map(read, chunk), start):
                    if isinstance(found, BadImage):
                        self._bad.append(found)
                    else:
                        self._add(tar, place, *found)
                progress(start + len(chunk))

    def _add(self, tar: TarWriter, place: int, suffix: str, content: bytes) -> None:
        label = int(self.images.labels[place])
        # A dot would end the record's name, and other letters make a tar file's headers twice as long.
        name = self.images.sources[place].name
        stem = _ODD.sub("_", name.rpartition(".")[0] or name)[-_NAME_LENGTH:]
        key = f"{place:06d}_{stem}"
        tar.write({"__key__": key, suffix: content, "cls": str(label).encode()})
        self._counts[label] += 1
        self._digest.update(f"{key}.{suffix}\0{len(content)}\0{label}\0".encode())
