"""What counts as an image among files and folders, for training as for prediction: names first, nothing is opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from mobilenets.formatting import printable
from mobilenets.install import install_line

EIGHT_BIT_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".avif", ".pbm"})
"""Extensions of formats whose samples have 8 bits at most."""
SUFFIXES: Final = EIGHT_BIT_SUFFIXES | {
    *(".png", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2", ".j2k", ".jpx"),
}
"""Extensions of the formats that Pillow reads by itself."""
HEIC_SUFFIXES: Final = frozenset({".heic", ".heif", ".hif"})
"""Those that pillow-heif brings, the extra `heic`."""

_JUNK: Final = frozenset(
    {
        *("__macosx", "_macosx", "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "desktop.ini", "icon\r"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "lost.dir"),
        *("network trash folder", "temporary items", "__pycache__"),
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb", "@recently-snapshot"),  # of Synology and QNAP
    }
)
_SPECIAL: Final = (
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
_SHOWN: Final = 5

Kind = Literal["folder", "image", "other", "special"]


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """What lies in a folder.

    Attributes:
        name: its own.
        kind: a folder, an image by its extension, another file, or what is no file at all and is never opened.
        size: in bytes, of an image; 0 where it can't be told, as of a link to nothing.
        what: of what is no file, what it is: `pipe`.
    """

    name: str
    kind: Kind
    size: int = 0
    what: str = ""


def is_junk(part: str) -> bool:
    """Whether a file or folder is an operating system's or a tool's own: dotfiles, `__MACOSX`, `@eaDir`, ..."""
    return part.startswith(".") or part.lower() in _JUNK


def is_image_name(name: str) -> bool:
    """Whether a file's extension is that of an image which can be read here."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES or (is_heic_name(name) and reads_heic())


def is_heic_name(name: str) -> bool:
    """Whether a file's extension is one of HEIC's, whether or not it can be read here."""
    return PurePosixPath(name).suffix.lower() in HEIC_SUFFIXES


@cache
def reads_heic() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def list_folder(folder: Path) -> list[FolderEntry]:
    """Return what lies in a folder, sorted by name, junk left out; links are followed.

    A link to nothing, or one that leads back to itself, is an image if it is called like one: opening it says what is
    wrong, where leaving it out would hide it.

    Raises:
        OSError: the folder can't be listed.
    """
    with os.scandir(folder) as entries:
        found = [_entry(entry) for entry in entries if not is_junk(entry.name)]
    return sorted(found, key=lambda entry: entry.name)


def _entry(entry: os.DirEntry[str]) -> FolderEntry:
    by_name: Kind = "image" if is_image_name(entry.name) else "other"
    try:
        status = entry.stat()
    except OSError:
        return FolderEntry(entry.name, by_name)
    if stat.S_ISDIR(status.st_mode):
        return FolderEntry(entry.name, "folder")
    if not stat.S_ISREG(status.st_mode):
        what = next((words for test, words in _SPECIAL if test(status.st_mode)), "no file")
        return FolderEntry(entry.name, "special", what=what)
    return FolderEntry(entry.name, by_name, status.st_size if by_name == "image" else 0)


class LeftOut:
    """Files that are left out of a data set or a prediction, counted by extension and folder as they are met."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, folder: str, what: str = "") -> None:
        """Count a file by its name; `folder` is its class or where it lies, `what` tells what is no file."""
        suffix = PurePosixPath(name).suffix.lower() or "without extension"
        self._counts[what or suffix, folder] += 1

    def merge(self, counts: Iterable[Sequence[object]]) -> None:
        """Add what `counts` of another returned."""
        for kind, folder, count in counts:
            self._counts[str(kind), str(folder)] += int(str(count))

    def counts(self) -> list[tuple[str, str, int]]:
        """Extension, or what it is in place of a file; folder; and how many, as JSON can hold them."""
        return [(kind, folder, count) for (kind, folder), count in sorted(self._counts.items())]

    def __len__(self) -> int:
        return self._counts.total()

    def __str__(self) -> str:
        """All of it in a line: `3 files left out: 2 .txt (cat), 1 .heic (dog); to read .heic: pip install ...`."""
        kinds = self._kinds()
        listed = [f"{count:,} {printable(kind)} ({self._folders(kind)})" for kind, count in kinds.items()]
        noun = "file" if len(self) == 1 else "files"
        told = f"{len(self):,} {noun} left out: {', '.join(listed)}"
        return f"{told}; {reading}" if (reading := self.reading()) else told

    def kinds(self) -> str:
        """The extensions alone: `2 files .heic, 1 file .tga`."""
        found = [f"{count:,} file{'s' * (count != 1)} {printable(kind)}" for kind, count in self._kinds().items()]
        return ", ".join(found[:_SHOWN]) + ", ..." * (len(found) > _SHOWN)

    def reading(self) -> str:
        """What to install so that some of them can be read; empty where nothing helps."""
        heic = sorted(HEIC_SUFFIXES & set(self._kinds()))
        return f"to read {' and '.join(heic)}: {install_line('heic')}" if heic and not reads_heic() else ""

    def _kinds(self) -> dict[str, int]:
        """How many there are of each kind, the commonest first."""
        kinds: Counter[str] = Counter()
        for (kind, _), count in self._counts.items():
            kinds[kind] += count
        return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))

    def _folders(self, kind: str) -> str:
        counts = [(folder or "the top folder", count) for (one, folder), count in self._counts.items() if one == kind]
        counts.sort(key=lambda item: (-item[1], item[0]))
        if len(counts) == 1:
            return printable(counts[0][0])
        shown = [f"{printable(folder)} {count:,}" for folder, count in counts[:_SHOWN]]
        rest = counts[_SHOWN:]
        more = f", {sum(count for _, count in rest):,} in {len(rest):,} others" if rest else ""
        return ", ".join(shown) + more
