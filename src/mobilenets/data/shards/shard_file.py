"""Writing one shard, with webdataset's writer of tar files: the same images give the same bytes.

An image's bytes are its file's own wherever that is possible. What is finished is noted in a journal, so that a writer
that was killed need not begin anew.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Self

import numpy as np
from PIL import Image
from pydantic import TypeAdapter
from webdataset.writer import TarWriter

from mobilenets.data.decoding import worker_count
from mobilenets.data.shards.index import JOURNAL, Origin, ShardEntry, Split
from mobilenets.data.sources import EncodedSource, ImageSource, ImageSplit
from mobilenets.errors import BadImage, BadImagesError, RunError
from mobilenets.files import write_atomically
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.limits import check_json, read_bytes

JPEG_QUALITY: Final = 95
"""Of images that are made smaller: little enough is lost that training does not notice."""


def encoded(source: ImageSource, image_size: int | None, deep: DeepPixels = AS_STORED) -> tuple[str, bytes]:
    """Return an image's format, as a file's extension without dot, and its bytes.

    A file's are copied as they are, once it is known that they can be read. Pixels that a package delivers become PNG,
    which loses nothing. With `image_size`, an image whose shorter side is longer is reduced to it and becomes JPEG,
    more than 8 bits a sample scaled by `deep`.

    Raises:
        BadImagesError: it can't be read.
    """
    image = source.open(deep)
    if image_size is not None and min(image.size) > image_size:
        scale = image_size / min(image.size)
        width, height = (max(image_size, round(side * scale)) for side in image.size)
        return "jpg", _saved(image.resize((width, height), Image.Resampling.LANCZOS), "JPEG", quality=JPEG_QUALITY)
    if isinstance(source, EncodedSource):
        return _suffix(source.name), source.encoded()
    return "png", _saved(image, "PNG")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix[1:].lower()


def _saved(image: Image.Image, format_name: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


@dataclass(frozen=True)
class Finished:
    """A shard that is written: its entry of the index, and how many images of each class it holds."""

    entry: ShardEntry
    class_counts: tuple[int, ...]


class Journal:
    """The finished shards of a folder; a context manager.

    Args:
        folder: where the shards are written.
        origin: what they are made of.

    Raises:
        RunError: the folder's journal is of something else, or can't be written.
    """

    def __init__(self, folder: Path, origin: Origin) -> None:
        self._path = folder / JOURNAL
        self.finished: dict[str, Finished] = {}
        try:
            lines = read_bytes(self._path).splitlines() if self._path.exists() else []
            if lines:
                self._read(lines, origin)
            self._file = self._path.open("ab")
            if not self.finished:  # also where the first line was torn by a crash
                self._file.truncate(0)
                self._write(TypeAdapter(Origin).dump_json(origin))
            elif not lines[-1].endswith(b"}"):
                self._write(b"")
        except OSError as error:
            raise RunError(
                f"{self._path}: can't be written ({error.strerror or error}); choose another folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, finished: Finished) -> None:
        """Note a shard that is in place.

        Raises:
            RunError: the disk is full.
        """
        self.finished[finished.entry.name] = finished
        try:
            self._write(TypeAdapter(Finished).dump_json(finished))
        except OSError as error:
            raise RunError(f"{self._path}: can't be written ({error.strerror or error}); shards so far stay") from error

    def remove(self) -> None:
        """Leave no trace: the index is there."""
        self._file.close()
        self._path.unlink()

    def _read(self, lines: list[bytes], origin: Origin) -> None:
        try:
            begun = TypeAdapter(Origin).validate_json(check_json(lines[0]))
        except ValueError:  # also pydantic's ValidationError
            return
        if begun != origin:
            raise RunError(
                f"{self._path.parent} holds unfinished shards of other images or options; choose another folder"
            )
        for line in lines[1:]:
            try:
                finished = TypeAdapter(Finished).validate_json(check_json(line))
            except ValueError:
                continue  # torn by a crash: its shard is written again
            self.finished[finished.entry.name] = finished

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


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
