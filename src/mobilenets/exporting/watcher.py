"""Who is told what a long piece of work is doing."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told what is going on."""

    def message(self, text: str) -> None:
        """Something worth one line."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` items of a longer piece of work."""


class Unwatched:
    """Ignores everything: the library's default."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Ignore it."""
