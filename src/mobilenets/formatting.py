"""How text and numbers are written wherever a result is put into words.

Names from outside, such as those of files, become text that terminals and spreadsheets only show. Numbers get their
digits, units and nouns; spaces are plain, but for `NBSP` where a line must not part a number from its unit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
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


def three_digits(value: float) -> str:
    """Write `value` with three significant digits and no exponent: 0.0312, 0.312, 12.4, 1,234."""
    for bound, digits in ((0.1, 4), (1.0, 3), (10.0, 2), (100.0, 1)):
        # Rounding may reach the bound (0.9996): then the next row, with a digit fewer, writes it.
        if round(abs(value), digits) < bound:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def p_value(probability: float) -> str:
    """Write a p-value as a reader needs it: two digits, and no pretended precision near 0."""
    if probability < 0.001:
        return "p < 0.001"
    return f"p = {probability:.{3 if probability < 0.1 else 2}f}"


def megabytes(size: int) -> str:
    """Write bytes as MB (10^6 bytes)."""
    return three_digits(size / 1e6)


def mebibytes(size: int) -> str:
    """Write bytes as MiB (2^20 bytes) with their unit: `13.37 MiB`."""
    return f"{size / 2**20:,.2f} MiB"


def multiply_adds(count: int) -> str:
    """Write multiply-adds in millions with their unit: `300.77 M`."""
    return f"{count / 1e6:,.2f} M"


MISSING = "–"
NBSP = "\u00a0"  # between a number and its unit, which a line must not part


def millions(count: int) -> str:
    """Write a count in millions with two decimals, or three below a tenth of a million."""
    return f"{count / 1e6:,.2f}" if count >= 100_000 else f"{count / 1e6:.3f}"


def unbroken_p_value(probability: float) -> str:
    """Write a p-value so that no line parts it."""
    return p_value(probability).replace(" ", NBSP)


def duration(seconds: float) -> str:
    """Seconds as people say them: `8 s`, `3:20 min`, `2:05 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def signed(value: float) -> str:
    """Write a difference with one decimal and a real minus sign; what rounds to zero has no sign."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def short_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Drop the `mobilenet_` that all labels share, for small plots; distinct labels stay distinct."""
    prefix = "mobilenet_"
    if all(label.startswith(prefix) and label != prefix for label in labels):
        return tuple(label.removeprefix(prefix) for label in labels)
    return tuple(labels)


def shortened(text: str, length: int) -> str:
    """Cut `text` to `length` characters, an ellipsis for its middle: names often differ only at their end."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1].rstrip()}…{text[-tail:].lstrip()}"
