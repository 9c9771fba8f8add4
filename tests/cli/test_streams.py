"""Standard streams of any encoding, closed ones, full disks, and names that try to steer the terminal."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.table import Table
from rich.text import Text

import mobilenets.cli
from mobilenets.cli.main import VERBS
from mobilenets.cli.progress import PlainConsole

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow

ENCODINGS = ("cp1252", "ascii", "cp437", "latin-1:strict", "shift_jis")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_comes_out_in_any_encoding(run: Run, encoding: str) -> None:
    done = subprocess.run(
        [*COMMAND, "summary", "mobilenet_v2", "--width-mult", "0.35"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert b"1,677,128" in done.stdout
    done.stdout.decode(encoding.partition(":")[0])


@pytest.mark.parametrize("verb", VERBS)
def test_help_comes_out_in_ascii(verb: str) -> None:
    done = subprocess.run(
        [*COMMAND, "help", verb], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: mobilenets {verb}" in done.stdout.decode("ascii")
    assert done.stderr == b""


def test_a_comparison_ends_well_under_another_encoding(tmp_path: Path, photos: Path) -> None:
    command = ["compare", "--data", str(photos), "--models", "mobilenet_v1", "--width-mult", "0.25", "--epochs", "1"]
    done = subprocess.run(
        [*COMMAND, *command, "--out", str(tmp_path / "report")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        check=False,
        timeout=300,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode("cp1252")
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert (tmp_path / "report" / "report.html").is_file()
    assert "mobilenet_v1 x0.25" in done.stdout.decode("cp1252")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_no_error(closed: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m mobilenets summary mobilenet_v2 {closed}"
    assert subprocess.run(["bash", "-c", command], check=False, cwd=tmp_path).returncode == 0


def test_a_file_never_gets_a_closed_streams_number() -> None:
    program = (
        "import os, sys\nfrom mobilenets.cli.streams import prepare_streams\nprepare_streams()\n"
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 1)"
    )
    done = subprocess.run(["bash", "-c", f"{sys.executable} -c '{program}' <&- >&- 2>&-"], check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = f"{sys.executable} -m mobilenets summary mobilenet_v2 > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "mobilenets: system: No space left on device\n"


NASTY = "\x1b[2Jgone\nmobilenets: all is well"


def test_predict_shows_names_and_classes_without_obeying_them(call: Run, tmp_path: Path, onnx_file: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / f"{NASTY}.png")
    (tmp_path / f"{NASTY}.jpg").write_bytes(b"no image")
    done = call("predict", str(onnx_file), str(tmp_path))
    assert done.returncode == 1
    for said in (done.stdout, done.stderr):
        assert "\x1b" not in said
        assert "\\u001b[2Jgone\\nmobilenets" in said
        assert "\nmobilenets: all is well" not in said


def test_an_error_about_such_a_name_is_one_printable_line(call: Run) -> None:
    for arguments in (("evaluate", NASTY), ("predict", NASTY, "x"), ("summary", NASTY), (NASTY,), ("audit", NASTY)):
        done = call(*arguments)
        assert done.returncode == 2
        assert done.stderr.rstrip("\n").isprintable(), done.stderr


def test_training_and_evaluating_show_classes_without_obeying_them(call: Run, tmp_path: Path, photos: Path) -> None:
    (photos / "warm").rename(photos / NASTY)
    (photos / NASTY / f"{NASTY}.png").write_bytes(b"no image")
    shape = ("--width-mult", "0.25", "--epochs", "1", "--batch-size", "4")
    done = call("train", "mobilenet_v1", "--data", str(photos), "--out", "run", "--skip-bad", *shape)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\\u001b[2Jgone\\nmobilenets: all is well" in done.stderr
    scored = call("evaluate", "run", "--data", str(photos), "--skip-bad")
    assert scored.returncode == 0, scored.stderr
    assert "\x1b" not in scored.stdout + scored.stderr


def test_a_formula_as_a_file_or_class_name_is_text_to_a_spreadsheet(
    call: Run, tmp_path: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "=1+1.png")
    monkeypatch.chdir(tmp_path)
    done = call("predict", str(onnx_file), "=1+1.png", "--format", "csv")
    assert done.stdout.splitlines()[1].startswith("'=1+1.png,")


@given(st.text())
def test_a_console_only_shows_what_a_cell_holds(text: str) -> None:
    out = io.StringIO()
    screen = PlainConsole(file=out, width=60, markup=False, highlight=False, emoji=False, force_terminal=True)
    table = Table()
    table.add_column("name")
    table.add_row(text)
    table.add_row(Text(text, style="bold"))
    screen.print(table)
    ours = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert all(sign.isprintable() or sign == "\n" for sign in ours)


def test_rich_markup_in_a_name_is_only_text() -> None:
    out = io.StringIO()
    PlainConsole(file=out, markup=False, highlight=False, emoji=False).print("[/red] :smile: [link=x]y[/link]")
    assert out.getvalue() == "[/red] :smile: [link=x]y[/link]\n"


def test_verbs_print_for_people_by_these_functions_alone() -> None:
    """A bare print is for JSON, which escapes by itself; a bare Console would obey what names hold."""
    folder = Path(mobilenets.cli.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            assert node.func.id != "Console", f"{path.name}: line {node.lineno}"
            if node.func.id == "print" and path.name not in ("streams.py", "main.py"):
                first = ast.unparse(node.args[0])
                assert "json" in first or (first.startswith("f") and ":<50}" in first), f"{path.name}: {first}"
