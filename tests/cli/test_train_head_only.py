"""Few images by the command itself: weights of a run folder, a head on them, and what the run is good for after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

pytestmark = pytest.mark.slow

NETWORK = ("train", "mobilenet_v2", "--width-mult", "0.35", "--image-size", "16", "--data", "photos")
FAST = ("--recipe", "quick", "--epochs", "1", "--precision", "float32", "--memory-format", "contiguous")


def test_a_head_is_fitted_evaluated_and_its_fields_are_its_own(
    run: Run, call: Run, photos: Path, tmp_path: Path
) -> None:
    given = call(*NETWORK, *FAST, "--batch-size", "8", "--out", "given")
    assert given.returncode == 0, given.stderr
    done = run(*NETWORK, "--weights", "given", "--head-only", "--balance", "weights", "--out", "head")
    assert done.returncode == 0, done.stderr
    assert "starting from model.safetensors (run folder)" in done.stderr
    assert "head fitted: logistic regression with C=" in done.stderr
    assert "training images 100.00 %" in done.stdout  # warm and cold colours
    assert 'balance = "weights"' in (tmp_path / "head" / "recipe.toml").read_text()

    scored = call("evaluate", "head", "--data", "photos", "--json")
    assert scored.returncode == 0, scored.stderr
    top1 = json.loads((tmp_path / "head" / "scores.json").read_text())["test"]["top1"]
    assert json.loads(scored.stdout)["top1"] == top1

    tuned = call(*NETWORK, "--weights", "head", *FAST, "--freeze", "bn", "--backbone-rate", "0.1", "--out", "tuned")
    assert tuned.returncode == 0, tuned.stderr
    assert "left fresh" not in tuned.stderr


def test_wrong_combinations_are_one_line(call: Run, photos: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--head-only",), "--head-only trains a head on what a backbone has learnt: give its --weights"),
        (("--head-only", "--weights", "given", "--teacher", "given"), "leave out --teacher, or --head-only"),
        (("--head-only", "--weights", "given", "--learning-rate", "0.1"), "--head-only has no learning_rate"),
        (("--freeze", "backbone"), "freeze is backbone, but the network starts fresh"),
        (("--recipe", "finetune"), "freeze is bn, but the network starts fresh"),
        (("--freeze", "head"), "head"),
        (("--backbone-rate", "0"), "backbone_rate is 0.0; it must be above 0"),
    ):
        done = call(*NETWORK, *arguments, "--out", "run")
        assert done.returncode == 2, arguments
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr
    assert not (tmp_path / "run").exists()
