"""Errors go from process to process, as teams and pools send them, and lose nothing on the way."""

from __future__ import annotations

import ast
import copy
import importlib
import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from failing import fail

import mobilenets
from mobilenets.cli.main import main
from mobilenets.errors import (
    ArtifactError,
    BadImage,
    BadImagesError,
    MissingExtraError,
    MobilenetsError,
    TrainingInterruptedError,
    reworded,
)

BAD = BadImagesError([BadImage(f"cat/{number}.jpg", "cut short") for number in range(7)])


class KeywordsOnlyError(MobilenetsError):
    """As awkward as a class of ours might become: no positional argument, and a message it makes itself."""

    def __init__(self, *, path: Path, wanted: int) -> None:
        super().__init__(f"{path}: {wanted} wanted")
        self.path, self.wanted = path, wanted


class WithoutMessageError(ArtifactError):
    def __init__(self) -> None:
        super().__init__()


def _modules_with_errors() -> list[str]:
    """Every module of the package that defines an exception, found in its source: importing all takes minutes."""
    root = Path(mobilenets.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        classes = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef))
        if any(ast.unparse(base).endswith("Error") for one in classes for base in one.bases):
            found.append(".".join(("mobilenets", *path.relative_to(root).with_suffix("").parts)))
    return found


def _kinds(kind: type[MobilenetsError] = MobilenetsError) -> set[type[MobilenetsError]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _one_of_each() -> list[MobilenetsError]:
    for name in _modules_with_errors():
        importlib.import_module(name)
    special: dict[type[MobilenetsError], MobilenetsError] = {
        BadImagesError: BAD,
        TrainingInterruptedError: TrainingInterruptedError("stopped", signal=15),
        KeywordsOnlyError: KeywordsOnlyError(path=Path("a/b"), wanted=3),
        WithoutMessageError: WithoutMessageError(),
        MissingExtraError: MissingExtraError("no ray", name="ray", path="/somewhere"),
    }
    made = [special.get(kind) or kind("what is wrong, where") for kind in _kinds()]
    return sorted(made, key=lambda error: type(error).__name__)


def _seen(error: BaseException) -> dict[str, object]:
    """All that can be told of an error."""
    names = (name for name in dir(error) if not name.startswith("__") and not callable(getattr(error, name)))
    seen = {name: getattr(error, name) for name in (*names, "__dict__", "__class__", "args")}
    return {**seen, "str": str(error), "repr": repr(error)}


@pytest.mark.slow
def test_the_walk_finds_the_tree() -> None:
    assert len(_one_of_each()) >= 20
    assert {"UsageError", "BadImagesError", "KeywordsOnlyError"} <= {type(one).__name__ for one in _one_of_each()}


@pytest.mark.parametrize("error", _one_of_each(), ids=lambda error: type(error).__name__)
def test_every_error_is_copied_whole(error: MobilenetsError) -> None:
    error = copy.copy(error)
    error.told = True
    error.add_note("while reading photos")
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for one in (*copies, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(copies[0]))):
        assert _seen(one) == _seen(error)
        assert one.exit_code == error.exit_code


def test_errors_come_back_from_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for error in (BAD, TrainingInterruptedError("stopped", signal=15)):
            with pytest.raises(type(error)) as caught:
                pool.submit(fail, error).result()
            assert str(caught.value) == str(error)
            assert caught.value.exit_code == error.exit_code


def test_other_words_keep_the_rest() -> None:
    other = reworded(BAD, "7 images elsewhere")
    assert (str(other), other.bad, other.rest) == ("7 images elsewhere", BAD.bad, BAD.rest)
    assert str(BAD).startswith("7 images can't be read")
    stopped = reworded(TrainingInterruptedError("stopped", signal=15), "stopped; go on")
    assert (stopped.signal, stopped.exit_code) == (15, 143)


@pytest.mark.parametrize(
    ("in_python", "in_the_command"),
    [
        ("leave them out with `skip_bad=True`", "leave them out with --skip-bad"),
        ("train with `seeds=2` or more", "train with --seeds 2 or more"),
        ("`resume=True` `force=True` to go on", "--resume --force to go on"),
        ("leave out `teacher`, or `head_only=True`.", "leave out --teacher, or --head-only."),
        ("run 'mobilenets doctor DATA --fix' again", "run 'mobilenets doctor DATA --fix' again"),
        ("photos/`x y`/a.jpg can't be read", "photos/`x y`/a.jpg can't be read"),
    ],
)
def test_the_command_names_arguments_as_its_options(in_python, in_the_command, capsys, monkeypatch):
    def fail(argv):
        raise MobilenetsError(in_python)

    monkeypatch.setattr("mobilenets.cli.models.main", fail)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == f"mobilenets: {in_the_command}\n"


@pytest.mark.slow
def test_no_message_raised_outside_the_command_line_names_an_option():
    """Python's users have no `--skip-bad`; a whole command in quotes is something to run, for them too."""
    option = re.compile(r"(?<![\w'/-])--[a-z][a-z-]+")
    command = re.compile(r"'(?:mobilenets|ray) [^']*'")
    root = Path(mobilenets.__file__).parent
    for path in sorted(set(root.rglob("*.py")) - set((root / "cli").rglob("*.py"))):
        raised = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Raise)]
        for node in raised:
            text = "".join(
                part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            assert not option.search(command.sub("", text)), f"{path.relative_to(root)}:{node.lineno}: {text}"


def test_no_error_of_a_function_advises_an_option(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_text("no picture")
    with pytest.raises(BadImagesError, match=r"or leave them out with `skip_bad=True`$"):
        raise BadImagesError([BadImage("a.jpg", "cut short")])
    with pytest.raises(MobilenetsError) as caught:
        mobilenets.train("mobilenet_v2", "digits", tmp_path / "run", force=True)
    assert "`resume=True`" in str(caught.value)
    assert "--" not in str(caught.value)
