"""Cutting what files and folders hold into parts, in an order that is the same every time; no PyTorch here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from mobilenets.data.archives import MemberSource
from mobilenets.errors import BadImage
from mobilenets.quoting import decodable
from mobilenets.runtime.image_files import find_images


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
