"""One interface, twice: a verb's command and its Python function take the same names, in the same order, by default
the same."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest

import mobilenets
from mobilenets.cli.main import VERBS
from mobilenets.result import Result

FUNCTIONS = {"models": "published_models"}
"""Verbs whose function is named otherwise: `mobilenets.models` is a package."""
PRINTED = {
    "audit": {"list_rules"},
    "doctor": {"list_rules"},
}
"""Options that only say what the command prints, beside `json`: no argument of a function."""
NOT_WITH_LIST_RULES = {"audit": "target", "doctor": "data"}
"""Arguments that the command requires unless it only prints its rules."""
RECIPE_FIELDS = {"fields", "changes"}
"""The fields of a recipe: flags of `train` each, and the function's further keyword arguments."""
REQUIRED = object()

ORDER = (*("model", "run", "run_or_artifact", "artifact", "artifacts", "target", "name", "data", "files", "out"),)
"""The first parameters, in this order; all others are keyword-only."""


def function_of(verb: str) -> Any:
    return getattr(mobilenets, FUNCTIONS.get(verb, verb))


def options_of(verb: str) -> dict[str, object]:
    """The command's options and their defaults, without those that only print."""
    module = importlib.import_module(f"mobilenets.cli.{verb}")
    options = getattr(module, f"{verb.capitalize()}Options")
    taken = {
        field.name: REQUIRED if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(options)
        if field.name not in PRINTED.get(verb, set()) | RECIPE_FIELDS | {"json"}
    }
    return taken | {name: REQUIRED for name in [NOT_WITH_LIST_RULES.get(verb)] if name}


def parameters_of(verb: str) -> dict[str, object]:
    """The function's parameters and their defaults, without `progress`."""
    return {
        name: REQUIRED if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(function_of(verb)).parameters.items()
        if name not in RECIPE_FIELDS | {"progress"}
    }


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_and_its_function_take_the_same(verb: str) -> None:
    options, parameters = options_of(verb), parameters_of(verb)
    assert list(options) == list(parameters)
    assert options == parameters


@pytest.mark.parametrize("verb", VERBS)
def test_only_what_the_verb_is_about_is_positional(verb: str) -> None:
    parameters = inspect.signature(function_of(verb)).parameters.values()
    positional = [one.name for one in parameters if one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD)]
    assert positional
    assert positional == [name for name in ORDER if name in positional]


@pytest.mark.parametrize("verb", VERBS)
def test_a_function_takes_progress_last_and_nothing_of_the_command_line(verb: str) -> None:
    names = [name for name in inspect.signature(function_of(verb)).parameters if name not in RECIPE_FIELDS]
    assert names[-1] == "progress"
    assert not {"command", "argv", "json"} & set(names)


@pytest.mark.parametrize("verb", VERBS)
def test_a_function_returns_a_result(verb: str) -> None:
    returned = _returned(function_of(verb))
    assert returned
    for kind in returned:
        assert issubclass(kind, Result)
        assert dataclasses.is_dataclass(kind)
        assert kind.__repr__ is Result.__repr__, f"{kind.__name__} is declared without repr=False"
        for part in ("to_dict", "_headline"):
            assert getattr(kind, part) is not getattr(Result, part), f"{kind.__name__} lacks {part}"


def _returned(function: Any) -> tuple[type, ...]:
    """The classes a function is annotated to return, also where these are imported for the annotation alone."""
    annotation = function.__annotations__["return"]
    found = []
    for name in str(annotation).split(" | "):
        module = inspect.getmodule(function)
        found.append(getattr(module, name, None) or _imported_for_types(Path(inspect.getfile(function)), name))
    return tuple(found)


def _imported_for_types(path: Path, name: str) -> type:
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["from"] and name in line.partition(" import ")[2].split(", "):
            return typing.cast(type, getattr(importlib.import_module(words[1]), name))
    raise AssertionError(f"{path} imports no {name}")
