"""Names from outside, such as those of files, as text that terminals and spreadsheets only show; counts in words."""

from __future__ import annotations

import json
import os
from pathlib import PurePath
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def decodable(name: str) -> str:
    """Return a file's name as text that can be encoded anywhere: bytes that are no UTF-8 become `\\xe9`.

    Python carries such bytes as lone surrogates, which open the file but can't be encoded, printed or saved.
    """
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Windows has surrogates of its own in names, which stand for no byte
        raw = name.encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "backslashreplace")


def printable(name: str | PurePath) -> str:
    """Return a name for a message: as it is where it holds only printable characters, else in quotes as JSON has it.

    Control characters (an escape sequence, a line break) and what turns the direction of text around never reach a
    terminal: `a\\nb` becomes `"a\\nb"`, its escape written out.
    """
    text = decodable(os.fspath(name))
    return text if text.isprintable() else json.dumps(text)


def one_line(text: str) -> str:
    """Return a message with each character escaped that is not printable: it stays on one line and only shows."""
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in decodable(text))


def several_lines(text: str) -> str:
    """Return a text of several lines with all else escaped that is not printable."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def spreadsheet_cell(text: str) -> str:
    """Return text for a cell of a CSV file, with an apostrophe in front where a spreadsheet would run it as a formula.

    A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return is a formula to spreadsheets, quotes or not
    (OWASP, "CSV Injection"). Only for text from outside: a negative number is none.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def plural(count: int, noun: str) -> str:
    """Write a count with its regular noun: `1 seed`, `1,437 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"
