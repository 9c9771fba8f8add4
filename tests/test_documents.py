"""The documents are true: their figures, commands, links and Python."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
VERB = re.compile(r"^(?:\$ )?mobilenets (\w+)((?: .*\\\n)* .*)$", re.MULTILINE)
MOST_LINES = 150
MOST_WORDS = 30
"""Of the README, and of a sentence in it."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def options(verb: str) -> set[str]:
    command = [sys.executable, "-m", "mobilenets", verb, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z0-9-]+", done.stdout))


def test_every_figure_is_that_of_its_json() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_and_link_within_the_project_is_there_and_pictures_are_small(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCED.sub("", text_of(document))):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} points to {target}"
        assert path.suffix != ".png" or path.stat().st_size < 300_000
        assert not anchor or anchor in anchors(path), f"{document.name} points to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_a_document_names_exists(document: Path) -> None:
    from mobilenets.cli.main import VERBS

    commands = VERB.findall(text_of(document)) + re.findall(r"`mobilenets (\w+)([^`]*)`", text_of(document))
    for verb, arguments in commands:
        assert verb in VERBS, f"{document.name}: mobilenets {verb}"
        missing = set(re.findall(r"--[a-z0-9-]+", arguments)) - options(verb)
        assert not missing, f"{document.name}: mobilenets {verb} has no {', '.join(sorted(missing))}"


def test_the_documents_name_every_command() -> None:
    from mobilenets.cli.main import VERBS

    named = {verb for document in DOCUMENTS for verb, _ in VERB.findall(text_of(document))}
    assert named >= set(VERBS)


def test_each_document_is_reached_from_the_index() -> None:
    index = text_of(ROOT / "docs" / "README.md")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not {page for page in pages if f"({page})" not in index}


def test_the_readme_is_short_and_its_sentences_are() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= MOST_LINES
    prose = re.sub(r"^(?:\||!\[|<).*$", "", FENCED.sub("\n\n", text), flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.!?])\s+|\n\n+|^- ", prose, flags=re.MULTILINE)
    long = [sentence for sentence in sentences if len(sentence.split()) > MOST_WORDS]
    assert not long, "\n".join(long)


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", text_of(README), flags=re.DOTALL)
    assert len(program.strip().splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "3504872" in done.stdout.replace(",", "")


def test_the_python_pages_python_runs(tmp_path: Path) -> None:
    for program in re.findall(r"```python\n(.*?)```", text_of(ROOT / "docs" / "python.md"), flags=re.DOTALL):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, f"{program}\n{done.stderr}"


def test_the_functions_beside_the_commands_take_those_arguments() -> None:
    import inspect

    import mobilenets

    rows = re.findall(
        r"^\| `mobilenets (\w+)[^`]*` \| `(\w+)\((.*)\)` \|$", text_of(ROOT / "docs/python.md"), re.MULTILINE
    )
    assert len(rows) > 10
    for verb, function, arguments in rows:
        assert function == {"models": "published_models"}.get(verb, verb)
        given = eval(f"(lambda *args, **kwargs: (args, kwargs))({arguments})")
        inspect.signature(getattr(mobilenets, function)).bind(*given[0], **given[1])
