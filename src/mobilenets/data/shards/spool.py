"""Encoded images in one unnamed file, where any of them can be had at once and none takes memory."""

from __future__ import annotations

import io
import tempfile
import threading
import weakref
from dataclasses import dataclass

from PIL import Image

from mobilenets.deep_pixels import AS_STORED, DeepPixels
from mobilenets.errors import DataError
from mobilenets.images import MAX_PIXELS, open_image, read_size


class Spool:
    """A file without a name, which goes with the process; written once, then read from any thread."""

    def __init__(self) -> None:
        # A file, not memory: the system keeps in memory what it has room for, and takes it back when others ask.
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
                f"{name} can't be copied to {tempfile.gettempdir()} ({error.strerror or error}): make room there, or "
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
