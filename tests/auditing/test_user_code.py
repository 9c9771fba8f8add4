"""Users' files: in packages, beside their helpers, reading a command line, or not what was named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mobilenets.auditing.target import load_target
from mobilenets.auditing.user_code import named_object
from mobilenets.errors import AuditError


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _forget_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_file_of_a_package_is_imported_as_its_part(tmp_path: Path) -> None:
    package = tmp_path / "a_users_package" / "nets"
    for folder in (package.parent, package):
        written(folder / "__init__.py", "")
    written(package / "blocks.py", "CHANNELS = 24\n")
    file = written(package / "net.py", "from .blocks import CHANNELS\n")
    before = list(sys.path)
    assert named_object(f"{file}:CHANNELS") == 24
    assert sys.path == before


def test_a_relative_import_outside_a_package_says_how_to_name_it(tmp_path: Path) -> None:
    file = written(tmp_path / "net.py", "from .blocks import CHANNELS\n")
    with pytest.raises(AuditError, match=r"relative import.*; name it by its package from the folder above"):
        named_object(f"{file}:CHANNELS")


def test_another_package_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    written(tmp_path / "json" / "__init__.py", "")
    file = written(tmp_path / "json" / "decoder.py", "from . import nothing_there\n")
    with pytest.raises(AuditError, match=r"decoder\.py needs its package json\.decoder, but .* has that name; rename"):
        named_object(f"{file}:Net")


def test_a_file_finds_what_the_current_directory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "common_to_this_project.py", "WIDTH = 3\n")
    file = written(tmp_path / "models" / "net.py", "from common_to_this_project import WIDTH\n")
    monkeypatch.chdir(tmp_path)
    assert named_object(f"{file.relative_to(tmp_path)}:WIDTH") == 3


def test_a_script_that_reads_its_arguments_gets_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', default=5)\n"
    file = written(tmp_path / "train.py", f"{script}args = parser.parse_args()\n")
    monkeypatch.setattr(sys, "argv", ["mobilenets", "audit", "--json"])
    assert named_object(f"{file}:args").lr == 5
    assert sys.argv == ["mobilenets", "audit", "--json"]


def test_a_script_that_fails_when_imported_is_one_line(tmp_path: Path) -> None:
    file = written(tmp_path / "train.py", "raise ValueError('no data')\n")
    with pytest.raises(AuditError, match="ValueError: no data; guard what runs in it"):
        named_object(f"{file}:Net")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "no target is named: give package.module:Factory"),
        ("nets/mine.onnx", r"nets/mine\.onnx is not there: check the path"),
        ("mine.tflite", r"mine\.tflite is not there"),
        ("mine.py", r"mine\.py is not there: give the path of a Python file, then a colon and the class"),
        ("torchvision.models.mobilenet_v2", "to name an object of a package write torchvision.models:mobilenet_v2"),
    ],
)
def test_what_is_not_there_or_not_named(target: str, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        load_target(target)


def test_a_file_without_a_name_lists_its_classes_unrun(tmp_path: Path) -> None:
    file = written(tmp_path / "net.py", "raise SystemExit\nclass Block: pass\nclass Net: pass\n")
    with pytest.raises(AuditError, match=r"name the network in it, e\.g\. .*net\.py:Net \(it has Block, Net\)"):
        load_target(str(file))


def test_an_archive_cut_short_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(AuditError, match=r"best\.pth is a damaged archive: cut short, or not downloaded whole"):
        load_target(str(tmp_path / "best.pth"))
