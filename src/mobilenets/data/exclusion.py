"""A list of images to leave out: a name a line, a tab, and why. The images themselves stay where and as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mobilenets.errors import DataError
from mobilenets.files import write_text_atomically

_COMMENT: Final = "#"


def read_exclusions(path: str | Path) -> dict[str, str]:
    """Read names and reasons; empty lines and those that begin with `#` are left out.

    Raises:
        DataError: it can't be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list; 'mobilenets doctor DATA --fix' writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of images ({error}): it holds a name a line") from error
    lines = (line.rstrip("\r\n") for line in text.split("\n"))
    pairs = (line.partition("\t") for line in lines if line.strip() and not line.startswith(_COMMENT))
    return {name: reason for name, _, reason in pairs}


def write_exclusions(path: Path, excluded: Mapping[str, str], about: str) -> None:
    """Write such a list, opened by a line of comment.

    Raises:
        RunError: it can't be written.
    """
    lines = (f"{name}\t{reason}\n" for name, reason in excluded.items())
    write_text_atomically(path, f"{_COMMENT} {about}\n" + "".join(lines))
