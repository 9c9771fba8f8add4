"""The project's words: the field's terms, and none of those on the lists in `scripts`.

`scripts/words.txt` holds single words and is read by codespell (`scripts/check` runs it, with the settings in
`pyproject.toml`); `scripts/phrases.txt` holds what takes more than a word to recognise, and is read here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORDS = ROOT / "scripts" / "words.txt"
PHRASES = ROOT / "scripts" / "phrases.txt"
READ = ("src", "tests", "docs", "examples", "benchmarks", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
SUFFIXES = {".py", ".md", ".toml", ".html"}
ALLOWED = {
    "src/mobilenets/training/recipe.py": {"rate_decay", "square_decay"},
    "tests/training/test_recipe.py": {"rate_decay", "square_decay"},
    "tests/training/test_state.py": {"rate_decay", "square_decay"},
}
"""Phrases that may stand in a file: fields of recipes that earlier versions wrote, which are read or named."""
LISTED = re.compile(r"<!-- (?:figures: words|old names) -->\n.*?<!-- end -->", re.DOTALL)
"""Where a document prints the lists themselves, or names of earlier versions."""


def phrases() -> dict[str, str]:
    """Phrases not to use, each with its replacement."""
    lines = PHRASES.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" -> ", maxsplit=1) for line in lines)


def documents() -> Iterator[Path]:
    """Every text of the project that people read, apart from the lists and this file."""
    for name in READ:
        path = ROOT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in SUFFIXES and file.is_file() and file != Path(__file__))


def pattern(phrase: str) -> re.Pattern[str]:
    """A phrase as whole words, wherever its line is broken; capitals count only where the phrase has some."""
    words = [re.escape(word) for word in phrase.split()]
    start = r"(?<!\w)" if phrase[0].isalpha() else ""
    end = r"(?!\w)" if phrase[-1].isalpha() else ""
    flags = re.NOFLAG if phrase != phrase.lower() else re.IGNORECASE
    return re.compile(start + r"(?:\s|\n\s*#\s|\"\s*\n\s*f?\")+".join(words) + end, flags)


def uses(text: str, found: re.Pattern[str]) -> list[int]:
    """The lines, from 1, on which a pattern begins; a document's own copy of the lists aside."""
    blank = LISTED.sub(lambda block: "\n" * block[0].count("\n"), text)
    return [blank.count("\n", 0, match.start()) + 1 for match in found.finditer(blank)]


def test_no_phrase_on_the_list_is_used() -> None:
    patterns = {phrase: pattern(phrase) for phrase in phrases()}
    wrong = []
    for path in documents():
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        for phrase in patterns.keys() - ALLOWED.get(name, set()):
            wrong += [f"{name}:{line}: {phrase} -> {phrases()[phrase]}" for line in uses(text, patterns[phrase])]
    assert not wrong, "\n".join(wrong)


def test_no_word_on_the_list_is_used_and_none_is_misspelled() -> None:
    command = [sys.executable, "-m", "codespell_lib", *READ, "scripts", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_listed_word_is_found_in_prose_and_within_names(tmp_path: Path) -> None:
    word = WORDS.read_text(encoding="utf-8").splitlines()[-1].split("->")[0]
    file = tmp_path / "some.py"
    file.write_text(f"def {word}_it(): ...\nclass {word.title()}Finder: ...\n# {word}.\nfix = 1\n", encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "--toml", str(ROOT / "pyproject.toml"), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == ["1", "2", "3"], done.stdout


def test_a_phrase_is_found_across_a_broken_line_and_as_whole_words() -> None:
    found = pattern("made over")
    assert uses("images made\n    # over again", found) == [1]
    assert uses('("images made "\n "over")', found) == [1]
    assert not uses("remade overall", found)
