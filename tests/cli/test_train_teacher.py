from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

pytestmark = pytest.mark.slow

TRAIN = [
    *("train", "mobilenet_v2", "--width-mult", "0.25", "--image-size", "16", "--data", "photos", "--recipe", "quick"),
    *("--batch-size", "8", "--epochs", "1", "--precision", "float32", "--memory-format", "contiguous"),
]


def test_a_run_teaches_another_and_a_wrong_one_is_refused_in_a_line(call: Run, photos: Path, tmp_path: Path) -> None:
    assert call(*TRAIN, "--out", "large").returncode == 0
    taught = call(*TRAIN, "--out", "small", "--teacher", "large", "--temperature", "2", "--distill-weight", "0.5")
    assert taught.returncode == 0, taught.stderr
    assert "learning from large (mobilenet_v2 x0.25 16px)" in taught.stderr
    assert "distilling on " in taught.stderr
    assert json.loads((tmp_path / "small" / "model.json").read_text())["provenance"]["teacher"] == "large"
    assert "distill_weight = 0.5" in (tmp_path / "small" / "recipe.toml").read_text()

    (photos / "cold").rename(photos / "cool")
    wrong = call(*TRAIN, "--out", "third", "--teacher", "large")
    pointless = call(*TRAIN, "--out", "third", "--temperature", "2")
    for done, said in (
        (wrong, "the teacher large does not answer cool (1 of the images' 2 classes are missing)"),
        (pointless, "recipe field temperature is 2.0, but there is no teacher; give --teacher"),
    ):
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "third").exists()
