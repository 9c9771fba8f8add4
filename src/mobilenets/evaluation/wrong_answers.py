"""The images a network misclassified, listed for people to look at: in a table for spreadsheets, or as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mobilenets.errors import DataError
from mobilenets.files import write_text_atomically
from mobilenets.formatting import spreadsheet_cell

SUFFIXES: Final = (".csv", ".json")
_DIGITS: Final = 6


@dataclass(frozen=True)
class WrongAnswer:
    """A misclassified image: its name, its class, the class answered and the probability given to it, 0 to 1."""

    image: str
    truth: str
    answer: str
    probability: float


def check_mistakes_file(path: Path) -> None:
    """Refuse a name that is of no known format, before anything takes long.

    Raises:
        DataError: it ends neither in .csv nor in .json.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: wrong answers are written as .csv or .json: give such a name")


def write_wrong_answers(path: str | Path, answers: Sequence[WrongAnswer]) -> None:
    """Write answers to a file, whole or not at all: `image`, `truth`, `answer` and `probability` of each.

    In CSV, names that a spreadsheet would run as formulas get an apostrophe in front.

    Args:
        path: ending in `.csv` or `.json`.
        answers: as `Predictions.wrong_answers` gives them.

    Raises:
        DataError: another ending.
        RunError: the file can't be written.
    """
    path = Path(path)
    check_mistakes_file(path)
    if path.suffix.lower() == ".json":
        rows = [asdict(answer) | {"probability": _rounded(answer.probability)} for answer in answers]
        write_text_atomically(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "truth", "answer", "probability"])
    for answer in answers:
        names = (spreadsheet_cell(name) for name in (answer.image, answer.truth, answer.answer))
        table.writerow([*names, f"{answer.probability:.{_DIGITS}f}"])
    write_text_atomically(path, text.getvalue())


def _rounded(probability: float) -> float | None:
    """JSON has no NaN."""
    return round(probability, _DIGITS) if math.isfinite(probability) else None
