import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.runtime.classifier import Prediction
from mobilenets.runtime.prediction_text import WRITERS, write_csv, write_json_lines, write_table

CAT = Prediction("a, b/cat.jpg", "cat", 0.8125, (("cat", 0.8125), ("dog", 0.1875)))
UNSURE = Prediction('q"u.png', "unknown", 0.375, (("dog", 0.375), ("cat", 0.25)))


def text(write, answers, encoding="utf-8"):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, newline="")
    write(answers, out)
    out.flush()
    return raw.getvalue().decode(encoding)


def test_one_image_shows_its_classes():
    assert text(write_table, [CAT]) == (
        "a, b/cat.jpg: cat\n"
        "  81.2%  ████████████████▎     cat\n"
        "  18.8%  ███▊                  dog\n"
    )  # fmt: skip


def test_an_unsure_answer_says_what_it_might_be():
    assert text(write_table, [UNSURE]).splitlines()[:2] == [
        'q"u.png: unknown',
        "  none of its classes is likely enough; the likeliest are",
    ]


def test_several_images_take_a_line_each_in_columns():
    lines = text(write_table, [CAT, UNSURE]).splitlines()
    assert [line.split() for line in lines] == [
        ["81.2%", "████████████████▎", "cat", "a,", "b/cat.jpg"],
        ["37.5%", "███████▌", "unknown", 'q"u.png'],
    ]
    assert lines[0].index("a, b") == lines[1].index('q"u')


def test_a_screen_without_blocks_gets_signs():
    assert text(write_table, [CAT], "ascii").splitlines()[1] == "  81.2%  ################      cat"


def test_no_answers_leave_nothing():
    assert all(text(write, []) == "" for write in WRITERS.values())


def test_csv_comes_back():
    rows = list(csv.DictReader(io.StringIO(text(write_csv, [CAT, UNSURE]))))
    assert [row["file"] for row in rows] == ["a, b/cat.jpg", 'q"u.png']
    assert (rows[1]["label"], float(rows[1]["probability"]), rows[1]["class_1"]) == ("unknown", 0.375, "dog")
    assert float(rows[0]["probability_2"]) == 0.1875


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@given(
    name=st.text(st.characters(exclude_categories=("Cs",))), label=st.text(st.characters(exclude_categories=("Cs",)))
)
def test_json_lines_come_back_whatever_the_names(encoding, name, label):
    answer = Prediction(name, label, 0.5, ((label, 0.5),))
    lines = text(write_json_lines, [answer, answer], encoding).split("\n")
    assert len(lines) == 3
    assert lines[2] == ""
    top = [{"class": label, "probability": 0.5}]
    assert json.loads(lines[0]) == {"file": name, "label": label, "probability": 0.5, "top": top}
