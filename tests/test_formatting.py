"""Numbers, counts and durations as they are written everywhere."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets import formatting
from mobilenets.formatting import decodable, printable, spreadsheet_cell


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0312, "0.0312"), (0.31249, "0.312"), (0.9996, "1.00"), (9.999, "10.0"), (12.44, "12.4"), (1234.4, "1,234")],
)
def test_three_digits(value: float, written: str) -> None:
    assert formatting.three_digits(value) == written


@given(st.floats(0.01, 1e6))
def test_three_digits_are_right_to_half_a_percent(value: float) -> None:
    assert math.isclose(float(formatting.three_digits(value).replace(",", "")), value, rel_tol=0.0051)


def test_short_labels_drop_only_what_all_share() -> None:
    assert formatting.short_labels(["mobilenet_v1 x1", "mobilenet_v2 x1"]) == ("v1 x1", "v2 x1")
    assert formatting.short_labels(["mobilenet_v1 x1", "mine"]) == ("mobilenet_v1 x1", "mine")


@given(st.text(max_size=40), st.integers(4, 20))
def test_shortened_text_fits_and_short_text_is_kept(text: str, length: int) -> None:
    short = formatting.shortened(text, length)
    assert len(short) <= length
    assert (short == text) == (len(text) <= length)


@pytest.mark.parametrize(("count", "words"), [(1, "1 class"), (2, "2 classes"), (1437, "1,437 classes")])
def test_plural(count: int, words: str) -> None:
    assert formatting.plural(count, "class") == words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (8.0, "8.0 s"), (9.99, "10.0 s"), (59.4, "59 s"), (60, "1:00 min"), (7500, "2:05 h")],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert formatting.duration(seconds) == said


@given(st.floats(0, 1e7))
def test_a_duration_always_has_a_unit(seconds: float) -> None:
    assert formatting.duration(seconds).split()[-1] in ("s", "min", "h")


@pytest.mark.parametrize(
    ("probability", "written"), [(0.0, "p < 0.001"), (0.0123, "p = 0.012"), (0.614, "p = 0.61"), (1.0, "p = 1.00")]
)
def test_p_value(probability: float, written: str) -> None:
    assert formatting.p_value(probability) == written


@pytest.mark.parametrize("name", ["cat.jpg", "größe/名前.png", "two words", "=1+1", ""])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.jpg", '"a\\nb.jpg"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("gpj.\u202etac", '"gpj.\\u202etac"'),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_control_characters_are_written_out(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_path_is_shown_like_its_text() -> None:
    assert printable(Path("photos/cat 1.jpg")) == str(Path("photos/cat 1.jpg"))


@given(st.text())
def test_nothing_unprintable_ever_comes_out(name: str) -> None:
    assert printable(name).isprintable()
    printable(name).encode("utf-8")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_that_can_be_encoded_is_decodable_as_it_is(name: str) -> None:
    assert decodable(name) == name


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_becomes_text(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["cat", "1-1", "a=b", ""])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert spreadsheet_cell(text) == text
