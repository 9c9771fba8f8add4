"""The command as its users start it, and the same within the test's own process, which need not load PyTorch again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenets.cli.main import main

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
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Like `run`, but in this process: for what does not depend on the start or the end of one."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()  # what was printed before is not this command's
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main(arguments)
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

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
