"""What a writer of shards has finished so far, so that one that was killed need not begin anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter

from mobilenets.data.shards.index import Origin, ShardEntry
from mobilenets.data.shards.location import JOURNAL
from mobilenets.errors import RunError
from mobilenets.limits import check_json, read_bytes


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
