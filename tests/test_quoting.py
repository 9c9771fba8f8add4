"""Names from outside can neither steer a terminal nor run in a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.quoting import decodable, printable, spreadsheet_cell


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
