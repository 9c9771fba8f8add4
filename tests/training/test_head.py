from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mobilenets.data.datasets import Dataset
from mobilenets.errors import ModelError, RecipeError, RunError, TrainingInterruptedError
from mobilenets.evaluation.results import SeedRun
from mobilenets.models.saved import SavedNetwork, load_network, save_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training import head
from mobilenets.training.recipe import Recipe, load_recipe
from mobilenets.workflows.train import train

pytestmark = pytest.mark.slow


class Progress(Silent):
    """Keeps what it is told; presses Ctrl-C (a real SIGINT) after a number of reports of the backbone's progress."""

    def __init__(self, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self.left = stop_after

    def message(self, text: str) -> None:
        self.said.append(text)

    def update(self, what: str, done: int, total: int) -> None:
        if not what.startswith("running the backbone"):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def few(digits: Dataset) -> Dataset:
    return replace(digits, train=digits.train.take(range(120)), test=digits.test.take(range(60)))


@pytest.fixture(scope="module")
def learnt(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a network that has learnt a little, at 16 pixels."""
    few = replace(digits, train=digits.train.take(range(120)), test=digits.test.take(range(20)))
    recipe = Recipe(
        **{"epochs": 4, "batch_size": 16, "learning_rate": 5e-3, "flip": False, "crop_padding": 1},  # type: ignore[arg-type]
        precision="float32",
        memory_format="contiguous",
    )
    run = tmp_path_factory.mktemp("learnt") / "given"
    train("mobilenet_v2", few, run, recipe=recipe, width_mult=0.35, image_size=16, device="cpu")
    return run


@pytest.fixture
def given(learnt: Path, tmp_path: Path) -> Path:
    """The same with class names and a preparation of its own."""
    model = load_network(learnt).model
    classes = tuple(f"digit {number}" for number in range(10))
    save_network(tmp_path / "given", SavedNetwork(model, classes, Preprocessing(16, mean=(0.4,)), {}))
    return tmp_path / "given"


def begin(data: Dataset, run: Path, weights: Path | None, **more: object) -> tuple[SeedRun, Progress]:
    progress = more.pop("progress", None) or Progress()
    arguments = {"width_mult": 0.35, "head_only": True, "flip": False, "device": "cpu", **more}
    return train("mobilenet_v2", data, run, weights=weights, progress=progress, **arguments), progress  # type: ignore[arg-type]


def test_only_the_classifier_changes_and_the_run_is_whole(few: Dataset, given: Path, tmp_path: Path) -> None:
    done, progress = begin(few, tmp_path / "run", given)
    before, after = (load_network(tmp_path / name) for name in ("given", "run"))
    old, new = before.model.state_dict(), after.model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith("classifier."))
    assert after.classes == few.classes
    assert after.preprocessing.image_size == 16  # the weights' size, where the digits' own would be 32
    assert after.preprocessing.mean == (0.4, 0.4, 0.4)
    assert after.provenance["head"].startswith("logistic regression on features, C=")
    assert done.train.top1 > 40
    assert any(line.startswith("head fitted: logistic regression") for line in progress.said)
    assert (tmp_path / "run" / "recipe.toml").read_text().splitlines()[1:] == [
        "flip = false",
        "validation_fraction = 0.1",
        "seed = 0",
        'freeze = "backbone"',
        'balance = "none"',
    ]
    assert isinstance(load_recipe(tmp_path / "run" / "recipe.toml"), Recipe)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["test"]["top1"] == done.test.top1


def test_flips_are_seen_too(few: Dataset, given: Path, tmp_path: Path) -> None:
    plain, _ = begin(few, tmp_path / "plain", given)
    flipped, _ = begin(few, tmp_path / "flipped", given, flip=True)
    assert plain.train.loss != flipped.train.loss


def test_a_stopped_run_keeps_its_features_and_ends_the_same(
    few: Dataset, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "PART", 25)
    begin(few, tmp_path / "whole", given)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(TrainingInterruptedError, match=r"stopped after 50 of 110 images; .* `resume=True`"):
        begin(few, tmp_path / "parts", given, progress=Progress(stop_after=2))
    cache = tmp_path / "another" / "mobilenets" / "features"
    kept = {file: file.stat().st_ino for file in cache.glob("*/*.npz")}
    assert len(kept) == 2
    with pytest.raises(RunError, match="holds a run already"):
        begin(few, tmp_path / "parts", given)
    begin(few, tmp_path / "parts", given, resume=True)
    assert all(file.stat().st_ino == number for file, number in kept.items())
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    _, progress = begin(few, tmp_path / "parts", given, resume=True)
    assert not any("head fitted" in line for line in progress.said)
    with pytest.raises(RunError, match="recipe balance: none there, weights now"):
        begin(few, tmp_path / "parts", given, resume=True, balance="weights")
    with pytest.raises(RunError, match="recipe head_only: True there, none now"):
        begin(few, tmp_path / "parts", given, resume=True, head_only=False, image_size=16)


def test_damaged_features_are_said_and_computed_again(few: Dataset, given: Path, tmp_path: Path) -> None:
    first, _ = begin(few, tmp_path / "first", given)
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "mobilenets" / "features"
    for file in cache.glob("*/*.npz"):
        file.write_bytes(file.read_bytes()[:-30])
    second, progress = begin(few, tmp_path / "second", given)
    assert any("damaged, and computed again" in line for line in progress.said)
    assert first.test == second.test


def test_wrong_combinations_are_refused_before_any_work(few: Dataset, given: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ModelError, match="give its `weights`"):
        begin(few, run, None)
    with pytest.raises(ModelError, match="leave out `teacher`"):
        begin(few, run, given, teacher=given)
    with pytest.raises(RecipeError, match="`head_only=True` has no epochs: of a recipe it takes flip, balance"):
        begin(few, run, given, epochs=3)
    assert not run.exists()
