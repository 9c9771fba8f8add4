"""Finding the images among files, folders and zips, one at a time, so that a folder of millions takes no memory.

`list_parts` cuts them into parts, in an order that is the same every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import cast

from mobilenets.data.archives import MemberSource, read_zip
from mobilenets.errors import BadImage, DataError
from mobilenets.formatting import decodable
from mobilenets.image_folders import LeftOut, list_folder

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


@dataclass(frozen=True)
class Listed:
    """A file found: what answers call it, and where any process of this machine or file system finds it.

    `member` is its name in the zip that `path` is; empty for a file of its own.
    """

    name: str
    path: str
    member: str = ""


Found = Listed | BadImage
"""A file, or a folder that can't be looked into."""


@dataclass(frozen=True)
class Part:
    """A piece of a listing.

    Attributes:
        number: its place, from 0.
        found: what was found, in order.
    """

    number: int
    found: tuple[Found, ...]

    @property
    def digest(self) -> str:
        """What tells it from a part of other files: a hash of the names."""
        digest = hashlib.blake2b(digest_size=16)
        for item in self.found:
            digest.update(item.name.encode() + b"\0")
        return digest.hexdigest()


def list_parts(paths: Iterable[Path], base: Path, size: int) -> Iterator[Part]:
    """Cut the files that `find_images` finds into parts of `size`; one of them is in memory at a time.

    Args:
        paths: files and folders as they were given.
        base: the folder relative ones start from.
        size: files a part; the last may have fewer.
    """
    found = find_listed(paths, base)
    for number in count():
        part = Part(number, tuple(islice(found, size)))
        if not part.found:
            return
        yield part


def find_listed(paths: Iterable[Path], base: Path) -> Iterator[Found]:
    """Find what `find_images` finds, named as if it had been called in the folder `base`."""
    for given in paths:
        start = base / given
        for item in find_images([start]):
            if isinstance(item, BadImage):
                below = Path(item.name).relative_to(decodable(str(start)))
                yield BadImage(decodable(str(given / below)), item.reason)
            elif isinstance(item, MemberSource):
                within = item.location.removeprefix(decodable(str(start)))
                yield Listed(decodable(str(given)) + within, str(start), item.member)
            else:
                yield Listed(decodable(str(given / item.relative_to(start))), str(item))
