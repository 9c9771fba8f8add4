from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from mobilenets.cli.compare import CompareOptions
from mobilenets.cli.options import Floats, Integers, Names, UsageError, parse


@dataclass(frozen=True)
class Lists:
    """Options that are lists."""

    names: Names = ("a",)
    """Names."""
    widths: Floats = (1.0,)
    """Widths."""
    sizes: Integers = ()
    """Sizes."""


def read(*arguments: str) -> Lists:
    return parse(Lists, arguments, "test", "About.")


def test_lists_are_written_with_commas() -> None:
    assert read("--names", "x,y, z,", "--widths", "0.5,1", "--sizes", "32") == Lists(("x", "y", "z"), (0.5, 1.0), (32,))
    assert read() == Lists()


@pytest.mark.parametrize("arguments", [("--widths", "a"), ("--sizes", "1.5"), ("--colour", "red"), ("--names",)])
def test_what_cant_be_read_is_one_line_with_the_way_to_help(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"see 'mobilenets test --help'") as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    assert "│" not in str(caught.value)


def test_help_shows_every_option_with_its_text_and_leaves_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(CompareOptions, ["--help"], "compare", "About.")
    assert not stop.value.code
    shown = capsys.readouterr().out
    for name in CompareOptions.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_mistake_is_said_whatever_the_terminals_encoding_can_draw(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(UsageError, match=r"^Unrecognized options: --colour,? red \(see 'mobilenets test --help'\)$"):
        read("--colour", "red")
