"""One process at a time writes a run folder, or one of answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from mobilenets.errors import RunError
from mobilenets.files import make_folder, remove_leftovers

LOCK: Final = ".lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for the time of the block, and clear away what a killed process left half written.

    The system lets go of the lock when its process ends, however it ends.

    Raises:
        RunError: another process holds it, or it can't be written.
    """
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{folder} is in use by another process; wait for its end, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{folder}: can't be locked ({reason}); choose another place") from error
    try:
        remove_leftovers(folder)
        yield
    finally:
        lock.release()
