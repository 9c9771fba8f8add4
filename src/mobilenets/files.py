"""Writing files whole or not at all: a crash leaves either the old content or the new; and locking folders."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mobilenets.errors import RunError

_LEFTOVER: Final = re.compile(r"\..+~[a-z0-9_]{8}(\.\w+)?")
"""How `mkstemp` names the temporary files below; the tilde keeps them apart from other hidden files."""


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        RunError: there is a file in the way, or no permission.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: can't be made a folder ({error.strerror}); choose another place") from error


def check_writable(path: Path, *, folder: bool = True) -> None:
    """Refuse a place that can't be written, before anything long is begun; nothing is made there.

    Args:
        path: a folder to be made or filled, or a file to be written.
        folder: which of the two.

    Raises:
        RunError: it is the other, there is a file in the way, or no permission.
    """
    try:
        there = path.exists()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        raise RunError(f"{path} can't be written ({getattr(error, 'strerror', None) or error})") from error
    if there and folder and not path.is_dir():
        raise RunError(f"{path} is a file: give a folder")
    if path.is_dir() and not folder:
        raise RunError(f"{path} is a folder: give the file's whole name")
    places = (path.absolute(), *path.absolute().parents)
    above = next(one for one in (places if folder else places[1:]) if os.path.lexists(one))  # links to nothing, too
    if not above.is_dir():
        raise RunError(f"{path} can't be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise RunError(f"{path} can't be written: no permission to write into {above}; choose another place")
    try:
        tempfile.TemporaryFile(dir=above).close()  # what permissions don't tell: /proc, a full disk
    except OSError as error:
        raise RunError(f"{path} can't be written: {above}: {error.strerror or error}; choose another place") from error


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = "mobilenets-") -> Iterator[Path]:
    """Make a folder that is removed when the context ends, also by a signal at any moment.

    The name is chosen before the folder is made. `tempfile` learns it afterwards: a signal in between, whose handler
    raises, leaves its folder behind. What can't be removed, such as a file that Windows keeps mapped, stays.

    Args:
        parent: where to make it; None for the system's place for temporary files.
        prefix: the beginning of its name.

    Raises:
        OSError: it can't be made.
    """
    folder = (parent or Path(tempfile.gettempdir())) / f"{prefix}{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unharmed(path: Path) -> str:
    """The end of a message that `path` could not be written: that what was there is unharmed, where anything was."""
    return "; what was there is unharmed" if os.path.lexists(path) else ""


def write_atomically(
    path: Path, write: Callable[[Path], object], *, before: Callable[[], object] | None = None
) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place in one step.

    It keeps the suffix of `path`, since some writers choose their format by it. On any failure it is removed and
    `path` is as it was; missing folders are made. The content is on the disk, not only in the system's memory, before
    it takes the old one's place: a power cut leaves one of the two.

    Args:
        path: the file.
        write: fills the temporary file.
        before: called when that is whole, before it takes its place.

    Raises:
        RunError: the folder or file can't be written, e.g. a full disk.
    """
    make_folder(path.parent)
    # Named before it is made, as in `temporary_folder`.
    temporary = path.with_name(f".{path.stem}~{secrets.token_hex(4)}{path.suffix}")
    try:
        try:
            temporary.touch(exist_ok=False)
            write(temporary)
            _to_disk(temporary)
            if before is not None:
                before()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path}: can't be written ({error.strerror or error}){unharmed(path)}") from error


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all; see `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with its own line ends to `path`, whole or not at all; see `write_atomically`."""
    write_bytes_atomically(path, text.encode())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`; no other may be writing there.

    Raises:
        RunError: one can't be removed.
    """
    try:
        for path in folder.iterdir():
            if path.is_file() and _LEFTOVER.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise RunError(f"{folder}: can't be tidied ({error.strerror or error}); check its permissions") from error


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:  # Windows refuses to sync what is open for reading alone
        os.fsync(file.fileno())


def outside(data: object, out: Path) -> Path:
    """Return `out`, unless it lies within the image folder `data`: its pictures would be read as data next time.

    `data` is what `load_dataset` takes; only a path can be a folder.

    Raises:
        RunError: it does.
    """
    folder = Path(data) if isinstance(data, str | Path) else None
    if folder is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"{out} lies within the images in {folder}; choose a folder outside of them with `out`")
    return out


LOCK: Final = ".lock"
"""In a run folder, or one of answers: one process at a time writes there."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for the time of the block, and clear away what a killed process left half written.

    The system lets go of the lock when its process ends, however it ends.

    Raises:
        RunError: another process holds it, or it can't be written.
    """
    from filelock import FileLock, Timeout  # not needed by the core

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
