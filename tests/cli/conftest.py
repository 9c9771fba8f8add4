"""The command as its users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = (sys.executable, "-m", "mobilenets")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Start `mobilenets` with these arguments in a temporary folder and wait for its end."""

    def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=300,
            check=False,
        )

    return start


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, 12 small pictures each: discs of warm and of cold colour."""
    random = np.random.default_rng(0)
    for name, colour in (("warm", (220, 90, 30)), ("cold", (30, 90, 220))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            noise = random.integers(-25, 25, (16, 16, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02d}.png")
    return tmp_path / "photos"
