"""What a process of a pool does that fails: it can import this, and no test."""

from __future__ import annotations


def fail(error: Exception) -> None:
    """Raise it."""
    raise error
