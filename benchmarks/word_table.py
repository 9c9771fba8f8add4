"""The words not to use as CONTRIBUTING.md lists them, from `scripts/words.txt` and `scripts/phrases.txt`."""

from __future__ import annotations

import re
from pathlib import Path


def words(root: Path) -> str:
    """A table of words and phrases with their replacements; of a word's forms only the shortest is shown."""
    pairs = [line.split("->", maxsplit=1) for line in _lines(root / "scripts" / "words.txt")]
    listed = {word for word, _ in pairs}
    rows: dict[str, list[str]] = {}
    for word, replacement in pairs:
        if not any(stem in listed for stem in _stems(word)):
            rows.setdefault(replacement, []).append(word)
    for line in _lines(root / "scripts" / "phrases.txt"):
        phrase, replacement = line.split(" -> ", maxsplit=1)
        rows.setdefault(replacement, []).append(f"`{phrase}`" if re.search(r"[._(]|class ", phrase) else phrase)
    lines = [f"| {'; '.join(found)} | {replacement} |" for replacement, found in rows.items()]
    return "\n".join(["| Not | But |", "| --- | --- |", *lines]) + "\n"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _stems(word: str) -> list[str]:
    """What a word may be a form of."""
    endings = (("s", ""), ("es", ""), ("d", ""), ("ed", ""), ("ing", ""), ("ing", "e"), ("'s", ""))
    return [word.removesuffix(end) + new for end, new in endings if word.endswith(end)]
