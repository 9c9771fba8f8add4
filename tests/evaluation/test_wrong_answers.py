"""Wrong answers as `evaluate` in Python lists them, and the files they are written to."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from mobilenets import evaluate_predictions
from mobilenets.errors import DataError
from mobilenets.evaluation.wrong_answers import WrongAnswer, write_wrong_answers

LOGITS = np.array([[4, 0, 0], [0, 1, 0], [0, 0, 9], [3, 0, 0]], np.float32)
NAMES = ("a/0.png", "b/1.png", "a/2.png", "b/3.png")


def test_each_with_truth_answer_and_probability_the_most_confident_first() -> None:
    images = np.zeros((4, 2, 2, 3), np.uint8)
    found = evaluate_predictions(
        lambda batch: LOGITS[: len(batch)], [(images, [0, 1, 0, 1])], "abc", names=NAMES
    ).mistakes
    assert [(one.image, one.truth, one.answer) for one in found] == [("a/2.png", "a", "c"), ("b/3.png", "b", "a")]
    assert found[1].probability == pytest.approx(math.exp(3) / (math.exp(3) + 2))
    assert evaluate_predictions(lambda batch: LOGITS[: len(batch)], [(images, [0, 1, 0, 1])], "abc").mistakes == ()
    with pytest.raises(DataError, match="1 names don't belong to 4 images"):
        evaluate_predictions(lambda batch: LOGITS[: len(batch)], [(images, [0, 1, 0, 1])], "abc", names=["one"])


def test_no_cell_is_a_formula_and_every_name_survives(tmp_path: Path) -> None:
    answers = [
        WrongAnswer('=1+1/a,"b"\n.png', "=1+1", "@sum", 0.75),
        WrongAnswer("ü.png", "-2", "b", math.nan),
    ]
    write_wrong_answers(tmp_path / "wrong.CSV", answers)
    with (tmp_path / "wrong.CSV").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "truth", "answer", "probability"],
        ['\'=1+1/a,"b"\n.png', "'=1+1", "'@sum", "0.750000"],
        ["ü.png", "'-2", "b", "nan"],
    ]
    write_wrong_answers(str(tmp_path / "wrong.json"), answers)
    listed = json.loads((tmp_path / "wrong.json").read_text(encoding="utf-8"))
    assert listed[0] == {"image": '=1+1/a,"b"\n.png', "truth": "=1+1", "answer": "@sum", "probability": 0.75}
    assert listed[1]["probability"] is None
    with pytest.raises(DataError, match=r"\.csv or \.json"):
        write_wrong_answers(tmp_path / "wrong.txt", answers)
