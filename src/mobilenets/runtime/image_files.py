"""Finding the images among files, folders and zips, one at a time: a folder of millions takes no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from mobilenets.data.archives import MemberSource, read_zip
from mobilenets.errors import BadImage, DataError
from mobilenets.image_folders import LeftOut, list_folder
from mobilenets.quoting import decodable

FoundImage = Path | MemberSource | BadImage
"""An image's path, an image in a zip, or what can't be looked into and why."""


def find_images(paths: Iterable[Path], left_out: LeftOut | None = None) -> Iterator[FoundImage]:
    """Go through files as they are given, and through folders, those below them and zips in alphabetical order.

    A file named by the caller is taken whatever it is called; in a folder those whose suffix is an image's, without
    dotfiles and what operating systems leave behind. Only the names of the folder at hand, and of those above it, are
    in memory. A zip is one that the caller named, and is not unpacked; in folders none is looked into.

    Args:
        paths: files, folders and zips.
        left_out: counts the files of a folder or zip that are no images.
    """
    for path in paths:
        if path.is_dir():
            yield from _below(path, frozenset(), left_out)
        elif path.suffix.lower() == ".zip":
            yield from _within(path, left_out)
        else:
            yield path


def _within(path: Path, left_out: LeftOut | None) -> Iterator[FoundImage]:
    try:
        tree = read_zip(path)
    except DataError as error:
        yield BadImage(decodable(str(path)), str(error))
        return
    if left_out is not None:
        for parts in tree.ignored:
            left_out.add(parts[-1], "/".join((decodable(str(path)), *parts[:-1])))
    for _, source in sorted(tree.files, key=lambda file: file[0]):
        yield cast(MemberSource, source)


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
