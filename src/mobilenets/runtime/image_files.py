"""Finding the images among files and folders, one at a time, so that a folder of millions takes no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mobilenets.errors import BadImage
from mobilenets.image_folders import LeftOut, list_folder
from mobilenets.quoting import decodable


def find_images(paths: Iterable[Path], left_out: LeftOut | None = None) -> Iterator[Path | BadImage]:
    """Go through files as they are given, and through folders and those below them in alphabetical order.

    A file named by the caller is taken whatever it is called; in a folder those whose suffix is an image's, without
    dotfiles and what operating systems leave behind. Only the names of the folder at hand, and of those above it, are
    in memory.

    Args:
        paths: files and folders.
        left_out: counts the files of a folder that are no images.

    Yields:
        An image's path, or what can't be looked into and why.
    """
    for path in paths:
        if path.is_dir():
            yield from _below(path, frozenset(), left_out)
        else:
            yield path


def _below(folder: Path, above: frozenset[tuple[int, int]], left_out: LeftOut | None) -> Iterator[Path | BadImage]:
    """`above` identifies the folders this one is in: a link back to one of them would never end."""
    try:
        status = folder.stat()
        itself = (status.st_dev, status.st_ino)
        if itself in above:
            return
        entries = list_folder(folder)
    except OSError as error:
        yield BadImage(decodable(str(folder)), f"folder can't be read: {error.strerror}")
        return
    for entry in entries:
        path = folder / entry.name
        if entry.kind == "folder":
            yield from _below(path, above | {itself}, left_out)
        elif entry.kind == "image":
            yield path
        elif left_out is not None:
            left_out.add(entry.name, decodable(str(folder)), entry.what)
