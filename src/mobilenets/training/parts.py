"""Remembering, over a restart, into how many parts a batch has to be cut to fit into memory.

A process alone notes that in its state. In a team, one that runs out of memory can't go on: the others are at another
place of the step. It leaves a note for the restart instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mobilenets.files import write_text_atomically
from mobilenets.limits import read_json

NOTE: Final = "batch_parts.json"


def remember_parts(run: Path, parts: int) -> None:
    """Leave the note.

    Raises:
        RunError: it can't be written.
    """
    write_text_atomically(run / NOTE, json.dumps({"parts": parts}) + "\n")


def remembered_parts(run: Path) -> int:
    """Into how many parts a batch has to be cut as far as is known; 1 where there is no note."""
    try:
        parts = read_json(run / NOTE)["parts"]
    except (OSError, ValueError, LookupError, TypeError):
        return 1  # missing or damaged: running out of memory once more is all it costs
    return parts if isinstance(parts, int) and parts >= 1 else 1
