"""What a caller may give in several forms: one or many, and how many threads at most; no PyTorch here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mobilenets.errors import BackendError, DataError
from mobilenets.machine import usable_cores

GivenPaths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path, or any number of them."""

MAX_BATCH = 65_536
"""The most images a network may be asked at once."""
_COMMAND: ContextVar[str | None] = ContextVar("mobilenets_command", default=None)
_LEAST_BOUND = 64
_MOST = 2**31 - 1


def paths_of(given: GivenPaths) -> Iterator[Path]:
    """Go through one path or several, as they are needed. Text is one path, not a sequence of letters.

    Raises:
        DataError: what is no path; at once where it is not even several of something.
    """
    if isinstance(given, str | os.PathLike):
        return iter([Path(given)])
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise DataError(f"paths are one path or several, as text or Path, not a {type(given).__name__}")
    return map(_path, given)


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several, each once. Text is one name, not a sequence of letters."""
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def numbers_of(given: int | Iterable[int]) -> tuple[int, ...]:
    """One number or several, each once."""
    return tuple(dict.fromkeys([given] if isinstance(given, int) else given))


def check_counts(**counts: int) -> None:
    """Refuse numbers of things, by their arguments' names, that can't be: each is a whole number, at least 1.

    Raises:
        DataError: one is not, or is more than anything here could count or, of `batch_size`, hold in memory.
    """
    for name, value in counts.items():
        most = MAX_BATCH if name == "batch_size" else _MOST
        if type(value) is not int:
            raise DataError(f"{name} is a whole number, not {value!r}")
        if value < 1:
            raise DataError(f"{name} is {value}; it must be at least 1")
        if value > most:
            raise DataError(f"{name} is too large; it must be at most {most:,}")


def most_threads() -> int:
    """The most threads a runtime may be asked for: more than some for each core only take memory and time."""
    return max(_LEAST_BOUND, 4 * usable_cores())


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that can't be; None is the caller's default.

    Raises:
        BackendError: it is no whole number, below 1, or above what this machine could make use of.
    """
    if threads is None:
        return
    if type(threads) is not int:
        raise BackendError(f"a number of threads is a whole number, not {threads!r}")
    if threads < 1:
        raise BackendError(f"a runtime needs at least 1 thread, not {threads}")
    if threads > most_threads():
        raise BackendError(
            f"{threads} threads are too many: at most {most_threads()} on this machine of {usable_cores()} cores"
        )


def _path(given: str | os.PathLike[str]) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise DataError(f"a path is text or a Path, not a {type(given).__name__}")
    return Path(given)


@contextmanager
def command_line(verb: str, argv: Sequence[str]) -> Iterator[None]:
    """Let the reports made within say that this command asked for them."""
    token = _COMMAND.set(shlex.join(["mobilenets", verb, *argv]))
    try:
        yield
    finally:
        _COMMAND.reset(token)


def command_or(call: str) -> str:
    """How a report was asked for: the command line where there is one, else the call in Python."""
    return _COMMAND.get() or call
