"""Answers as text: a table for people, CSV and JSON lines for programs; each is written as it comes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any, Final, TextIO

from mobilenets.formatting import printable, spreadsheet_cell
from mobilenets.runtime.classifier import UNKNOWN, Prediction

_BAR_WIDTH: Final = 20
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_LABEL_WIDTH: Final = 28

Writer = Callable[[Iterable[Prediction], TextIO], None]


def write_table(answers: Iterable[Prediction], out: TextIO) -> None:
    """One image: its likeliest classes. Several: a line each, with a bar for the probability.

    The file's name comes last, for it may be of any length and the widths must be known before all answers are.
    """
    answers = iter(answers)
    first = list(islice(answers, 2))
    bar = _bar if _can_print(out, _EIGHTHS) else _plain_bar
    if len(first) == 1:
        _write_one(first[0], out, bar)
        return
    for answer in chain(first, answers):
        share = answer.probability
        out.write(f"{share:7.1%}  {bar(share)}  {_fit(printable(answer.label))}  {printable(answer.name)}\n")


def write_csv(answers: Iterable[Prediction], out: TextIO) -> None:
    """A line an image: file, label, probability, then the likeliest classes in pairs of columns."""
    answers = iter(answers)
    for first in answers:
        out.write(csv_head(len(first.top)))
        write_csv_rows(chain([first], answers), out)


def csv_head(top: int) -> str:
    """The first line of such a table, for answers that list `top` classes."""
    pairs = chain.from_iterable((f"class_{rank + 1}", f"probability_{rank + 1}") for rank in range(top))
    return ",".join(["file", "label", "probability", *pairs]) + "\n"


def write_csv_rows(answers: Iterable[Prediction], out: TextIO) -> None:
    """Such a table without its first line; a name that a spreadsheet would run as a formula gets an apostrophe."""
    table = csv.writer(out, lineterminator="\n")
    for answer in answers:
        listed = chain.from_iterable((spreadsheet_cell(name), f"{share:.6f}") for name, share in answer.top)
        said = spreadsheet_cell(answer.name), spreadsheet_cell(answer.label)
        table.writerow([*said, f"{answer.probability:.6f}", *listed])


def write_json_lines(answers: Iterable[Prediction], out: TextIO) -> None:
    """A JSON object an image: `file`, `label`, `probability`, `top` with `class` and `probability`."""
    for answer in answers:
        document = prediction_record(answer)
        line = json.dumps(document, ensure_ascii=False)
        out.write((line if _can_print(out, line) else json.dumps(document)) + "\n")


def prediction_record(answer: Prediction) -> dict[str, Any]:
    """An answer for JSON: `file`, `label`, `probability`, `top` with `class` and `probability`."""
    return {
        "file": answer.name,
        "label": answer.label,
        "probability": round(answer.probability, 6),
        "top": [{"class": name, "probability": round(share, 6)} for name, share in answer.top],
    }


WRITERS: Final[dict[str, Writer]] = {"table": write_table, "csv": write_csv, "jsonl": write_json_lines}


def _write_one(answer: Prediction, out: TextIO, bar: Callable[[float], str]) -> None:
    out.write(f"{printable(answer.name)}: {printable(answer.label)}\n")
    if answer.label == UNKNOWN:
        out.write("  none of its classes is likely enough; the likeliest are\n")
    for name, share in answer.top:
        out.write(f"{share:7.1%}  {bar(share)}  {printable(name)}\n")


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return (_EIGHTHS[8] * whole + _EIGHTHS[rest].strip()).ljust(_BAR_WIDTH)


def _plain_bar(share: float) -> str:
    return ("#" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH)


def _fit(label: str) -> str:
    return (label if len(label) <= _LABEL_WIDTH else label[: _LABEL_WIDTH - 3] + "...").ljust(_LABEL_WIDTH)


def _can_print(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
