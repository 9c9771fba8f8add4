"""List the images below a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mobilenets.data.layout import ImageTree, Parts
from mobilenets.data.sources import FileSource, ImageSource
from mobilenets.errors import DataError
from mobilenets.image_folders import FolderEntry, list_folder
from mobilenets.images import MAX_PIXELS
from mobilenets.quoting import decodable, printable


def read_folder(folder: Path, max_pixels: int = MAX_PIXELS) -> ImageTree:
    """Return the image files below `folder`; symbolic links are followed, but no folder is entered twice.

    Args:
        folder: where to look.
        max_pixels: of how many pixels an image may be.

    Raises:
        DataError: a folder that can't be listed.
    """
    files: list[tuple[Parts, ImageSource]] = []
    folders: set[Parts] = set()
    ignored: list[Parts] = []
    special: dict[Parts, str] = {}
    for parts, path, entry in _walk(folder, (), set()):
        if entry.kind == "folder":
            folders.add(parts)
        elif entry.kind == "image":
            files.append((parts, FileSource(path, "/".join(parts), entry.size, max_pixels)))
        else:
            ignored.append(parts)
            if entry.what:
                special[parts] = entry.what
    return ImageTree(decodable(str(folder)), files, frozenset(folders), ignored, special)


def _walk(folder: Path, above: Parts, seen: set[tuple[int, int]]) -> Iterator[tuple[Parts, Path, FolderEntry]]:
    try:
        status = folder.stat()
        entries = list_folder(folder)
    except OSError as error:
        _refuse(folder, error)
    # A link back to a folder above would be walked for ever.
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        parts, path = (*above, decodable(entry.name)), folder / entry.name
        yield parts, path, entry
        if entry.kind == "folder":
            yield from _walk(path, parts, seen)


def _refuse(folder: Path, error: OSError) -> NoReturn:
    raise DataError(
        f"{printable(folder)} can't be listed ({error.strerror or error}): check its permissions"
    ) from error
