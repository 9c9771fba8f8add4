"""A list of images to leave out: a name a line, a tab, and why. The images themselves stay where and as they are.

A name that would not survive as a line (it begins like a comment, or holds a tab or an end of line) stands in quotes,
as JSON writes text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mobilenets.errors import DataError
from mobilenets.files import write_text_atomically
from mobilenets.limits import MAX_LIST_BYTES, parse_json, read_text
from mobilenets.quoting import printable

_COMMENT: Final = "#"
_QUOTE: Final = '"'


def read_exclusions(path: str | Path) -> dict[str, str]:
    """Read names and reasons; empty lines and those that begin with `#` are left out.

    Raises:
        DataError: it can't be read.
    """
    try:
        # Editors on Windows put a byte order mark in front.
        text = read_text(path, most=MAX_LIST_BYTES, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list; 'mobilenets doctor DATA --fix' writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} is no list of images ({reason}): it holds a name a line") from error
    excluded: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if line.strip() and not line.startswith(_COMMENT):
            name, _, reason = line.partition("\t")
            excluded[_unquoted(name, f"{path}, line {number}")] = reason
    return excluded


def write_exclusions(path: Path, excluded: Mapping[str, str], about: str) -> None:
    """Write such a list, opened by a line of comment.

    Raises:
        RunError: it can't be written.
    """
    lines = (f"{as_listed(name)}\t{' '.join(reason.split())}\n" for name, reason in excluded.items())
    write_text_atomically(path, f"{_COMMENT} {about}\n" + "".join(lines))


def as_listed(name: str) -> str:
    """A name as the list has it, on one line and without anything a terminal would obey."""
    plain = name.isprintable() and name == name.strip() and not name.startswith((_COMMENT, _QUOTE))
    return name if plain else json.dumps(name)


def _unquoted(name: str, where: str) -> str:
    if not name.startswith(_QUOTE):
        return name
    try:
        return str(parse_json(name))
    except ValueError as error:
        raise DataError(f"{where}: {printable(name)} begins with a quote and is no JSON text ({error})") from error
