"""What the documents say is so: their figures, their commands, their Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def test_every_figure_is_that_of_its_json() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_picture_and_link_within_the_project_is_there_and_pictures_are_small() -> None:
    for document, text in ((ROOT / "README.md", README), (ROOT / "docs" / "guide.md", GUIDE)):
        for target in re.findall(r"\]\(([^)#]+)", text):
            if not target.startswith("http"):
                path = document.parent / target
                assert path.exists(), f"{document.name} points to {target}"
                assert path.suffix != ".png" or path.stat().st_size < 300_000


@pytest.mark.parametrize("text", [README, GUIDE], ids=["README", "guide"])
def test_every_option_a_document_names_exists(text: str) -> None:
    from mobilenets.cli.main import VERBS

    commands = re.findall(r"^mobilenets (\w+)((?: .*\\\n)* .*)$", text, flags=re.MULTILINE)
    assert commands
    for verb, arguments in commands:
        assert verb in VERBS
        done = subprocess.run(
            [sys.executable, "-m", "mobilenets", verb, "--help"], capture_output=True, text=True, check=True
        )
        for option in re.findall(r"--[a-z0-9-]+", arguments):
            assert option in done.stdout, f"mobilenets {verb} has no {option}"


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(program.strip().splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "3504872" in done.stdout.replace(",", "")
