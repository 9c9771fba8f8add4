"""What every result offers: a short representation, a table for notebooks, rows for pandas, a dictionary for JSON."""

from __future__ import annotations

import builtins
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mobilenets.errors import MissingExtraError
from mobilenets.result import ROWS_SHOWN, Result


@dataclass(frozen=True, repr=False)
class Listing(Result):
    """A result of any number of rows."""

    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def _headline(self) -> str:
        return f"{len(self.names)} names, <first> {self.names[0]}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [{"name": name, "length": len(name), "share": 1 / 3, "none": None} for name in self.names]


@dataclass(frozen=True, repr=False)
class Plain(Result):
    """A result without rows."""

    def to_dict(self) -> dict[str, Any]:
        return {}

    def _headline(self) -> str:
        return "a & b"


MARKUP = Listing(("<script>alert(1)</script>", "b"))


def test_the_representation_is_one_short_line() -> None:
    many = Listing(tuple(map(str, range(10_000))))
    assert repr(many) == "<Listing: 10000 names, <first> 0>"
    assert len(repr(many)) < 200
    assert json.loads(json.dumps(many.to_dict())) == {"names": list(many.names)}


def test_html_escapes_names_and_shows_numbers_shortly() -> None:
    page = MARKUP._repr_html_()
    assert "<script>" not in page
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td>25</td><td>0.3333</td><td></td>" in page
    assert "<caption>2 names, &lt;first&gt; &lt;script&gt;" in page
    assert Plain()._repr_html_() == "<p>a &amp; b</p>"


def test_html_shows_the_first_rows_and_counts_the_others() -> None:
    page = Listing(tuple(map(str, range(ROWS_SHOWN + 7))))._repr_html_()
    assert page.count("<tr>") == 1 + ROWS_SHOWN
    assert "and 7 more" in page


def test_a_frame_holds_the_rows() -> None:
    if importlib.util.find_spec("pandas") is None:
        pytest.skip("pandas is not installed")
    frame = MARKUP.to_frame()
    assert list(frame.columns) == ["name", "length", "share", "none"]
    assert list(frame["length"]) == [25, 1]
    assert len(Plain().to_frame()) == 0


def test_without_pandas_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"to_frame\(\) needs pandas.*pip install pandas"):
        MARKUP.to_frame()


def test_a_result_must_say_what_it_is() -> None:
    for part in (Result().to_dict, Result().__repr__):
        with pytest.raises(NotImplementedError, match="Result has to say"):
            part()
