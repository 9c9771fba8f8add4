"""List the images below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mobilenets.data.layout import ImageTree, Parts, is_image_name, is_junk
from mobilenets.data.sources import FileSource, ImageSource
from mobilenets.errors import DataError
from mobilenets.quoting import decodable, printable


def read_folder(folder: Path) -> ImageTree:
    """Return the image files below `folder`; symbolic links are followed, but no folder is entered twice.

    Raises:
        DataError: a folder that can't be listed.
    """
    files: list[tuple[Parts, ImageSource]] = []
    folders: set[Parts] = set()
    ignored: list[Parts] = []
    for parts, entry in _walk(folder, (), set()):
        if entry.is_dir():
            folders.add(parts)
        elif is_image_name(entry.name):
            # A dangling link stays in the list: opening it says what is wrong, where skipping it would hide it.
            size = entry.stat().st_size if entry.is_file() else 0
            files.append((parts, FileSource(Path(entry.path), "/".join(parts), size)))
        else:
            ignored.append(parts)
    return ImageTree(decodable(str(folder)), files, frozenset(folders), ignored)


def _walk(folder: Path, above: Parts, seen: set[tuple[int, int]]) -> Iterator[tuple[Parts, os.DirEntry[str]]]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        _refuse(folder, error)
    # A link back to a folder above would be walked for ever.
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if is_junk(entry.name):
            continue
        parts = (*above, decodable(entry.name))
        yield parts, entry
        if entry.is_dir():
            yield from _walk(Path(entry.path), parts, seen)


def _refuse(folder: Path, error: OSError) -> NoReturn:
    raise DataError(
        f"{printable(folder)} can't be listed ({error.strerror or error}): check its permissions"
    ) from error
