"""torchrun with hardly any images, and as a scheduler restarts it: by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

TRAIN = [
    *("train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "16", "--data", "few"),
    *("--recipe", "quick", "--precision", "float32", "--memory-format", "contiguous", "--out", "run"),
]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """3 images to train on, 2 to test on."""
    for split, counts in (("train", (2, 1)), ("test", (1, 1))):
        for name, count in zip(("cold", "warm"), counts, strict=True):
            (tmp_path / "few" / split / name).mkdir(parents=True)
            for number in range(count):
                # No image of test/ is a copy of one of train/: copies are not scored.
                color = (90 * number, 60 if name == "cold" else 200, 90 if split == "train" else 30)
                Image.new("RGB", (16, 16), color).save(tmp_path / "few" / split / name / f"{number}.png")
    return tmp_path


def torchrun(folder: Path, processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*start, "-m", "mobilenets", *TRAIN, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_fewer_images_than_processes_are_refused_once(few: Path) -> None:
    done = torchrun(few, 4)
    assert done.returncode == 1  # torchrun's own, of any failure
    ours = [line for line in done.stderr.splitlines() if line.startswith("mobilenets: ")]
    assert ours == ["mobilenets: 3 training images for 4 processes; start at most 3, or give more images"]
    assert "exitcode  : 2" in done.stderr
    assert "ZeroDivisionError" not in done.stderr


def test_one_command_starts_and_ends_and_is_extended(few: Path) -> None:
    first = torchrun(few, 2, "--resume", "--epochs", "1")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("nothing was saved in run yet: training starts from the beginning") == 1
    again = torchrun(few, 2, "--resume", "--epochs", "1")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("run is finished: 1 epoch is trained; nothing is trained again") == 1
    longer = torchrun(few, 2, "--resume", "--epochs", "2")
    assert longer.returncode == 0, longer.stderr
    assert longer.stderr.count("extended from 1 to 2 epochs") == 1
    assert len((few / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((few / "run" / "model.json").read_text())["provenance"]["extended"]
