"""Reading the results the tables are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


loaded: list[str] = []
"""The names of the results read since someone cleared it: a figure's sources."""


def load(name: str) -> Any:
    """One result."""
    loaded.append(name)
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
