"""Finding the images among files and folders, one at a time, so that a folder of millions takes no memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mobilenets.errors import BadImage
from mobilenets.quoting import decodable

SUFFIXES: Final = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif"),
    }
)
_JUNK: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def find_images(paths: Iterable[Path]) -> Iterator[Path | BadImage]:
    """Go through files as they are given, and through folders and those below them in alphabetical order.

    A file named by the caller is taken whatever it is called; in a folder those whose suffix is an image's, without
    dotfiles and what operating systems leave behind. Only the names of the folder at hand, and of those above it, are
    in memory.

    Yields:
        An image's path, or what can't be looked into and why.
    """
    for path in paths:
        if path.is_dir():
            yield from _below(path, frozenset())
        else:
            yield path


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path | BadImage]:
    """`above` identifies the folders this one is in: a link back to one of them would never end."""
    try:
        status = folder.stat()
        itself = (status.st_dev, status.st_ino)
        if itself in above:
            return
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries if not _is_junk(entry.name))
    except OSError as error:
        yield BadImage(decodable(str(folder)), f"folder can't be read: {error.strerror}")
        return
    for name, is_folder in names:
        path = folder / name
        if is_folder:
            yield from _below(path, above | {itself})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK
