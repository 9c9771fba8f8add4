"""Reading a verb's options from the command line into its dataclass, by tyro; a mistake becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar, cast

import tyro

from mobilenets.errors import MobilenetsError
from mobilenets.limits import parse_json

Options = TypeVar("Options")
Item = TypeVar("Item", str, int, float)


class UsageError(MobilenetsError):
    """Options that can't be read."""


def comma_separated(
    kind: Callable[[str], Item], metavar: str
) -> tyro.constructors.PrimitiveConstructorSpec[tuple[Item, ...]]:
    """How tyro reads a tuple from one argument such as `a,b,c`."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda arguments: tuple(
            kind(part.strip()) for part in arguments[0].split(",") if part.strip()
        ),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(str(part) for part in value)],
    )


Names = Annotated[tuple[str, ...], comma_separated(str, "A,B,...")]
Floats = Annotated[tuple[float, ...], comma_separated(float, "X,Y,...")]
Integers = Annotated[tuple[int, ...], comma_separated(int, "N,M,...")]
# To check a default against `str | None` tyro imports typeguard, and asyncio with it, which takes a tenth of the time
# `predict` needs for an image. Typing's older spelling needs no such help.
OptionalText = Optional[str]  # noqa: UP045
OptionalInteger = Optional[int]  # noqa: UP045
OptionalNumber = Optional[float]  # noqa: UP045
OptionalPath = Optional[Path]  # noqa: UP045


def arguments_of(options: Any) -> dict[str, Any]:
    """A verb's options as its Python function takes them: all but `json`, which only says what is printed."""
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name != "json"}


def parse(
    options: type[Options], argv: Sequence[str], verb: str, about: str, default: Options | None = None
) -> Options:
    """Read `argv` into the dataclass `options`; `--help` prints and exits.

    Raises:
        UsageError: one line saying what can't be read.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            read = partial(
                tyro.cli, prog=f"mobilenets {verb}", description=about, args=argv, config=(tyro.conf.OmitArgPrefixes,)
            )
            return cast(Options, read(options) if default is None else read(options, default=default))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(complaint.getvalue()) + f" (see 'mobilenets {verb} --help')") from None


def keyword_arguments(text: str | None) -> dict[str, Any] | None:
    """Read `--args`, a JSON object; None where it is not given.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        arguments = parse_json(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--args is no JSON: {error.msg} at character {error.pos + 1} of {_short(text)}") from None
    except ValueError as error:
        raise UsageError(f"--args can't be read: {error}") from None
    if not isinstance(arguments, dict):
        raise UsageError(f"--args must be a JSON object such as '{{\"num_classes\": 10}}', not {_short(text)}")
    return arguments


def _short(text: str) -> str:
    """The beginning of what was given, quoted."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _one_line(box: str) -> str:
    """The words of tyro's framed message: what is wrong and, where it has one, its suggestion.

    The first line is its title; where the terminal's encoding has no lines to draw, the frame is of blanks and hyphens.
    """
    lines = [line.strip("│╰╯ ") for line in box.splitlines()[1:]]
    text = " ".join("|" if set(line) <= {"─", "-"} else line for line in lines)
    parts = [part.strip() for part in text.split("|") if part.strip()] or ["these options can't be read"]
    kept = [parts[0], *(part for part in parts[1:] if part.startswith("Perhaps"))]
    return re.sub(r"\s+", " ", "; ".join(kept))
