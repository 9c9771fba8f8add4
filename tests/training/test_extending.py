"""A run is given more epochs: which schedule it follows, that nothing is left to chance, and what it remembers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mobilenets.data.datasets import load_dataset
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import RunError, TrainingInterruptedError
from mobilenets.evaluation.results import SeedRun
from mobilenets.training.checkpoints import load_state
from mobilenets.training.loop import Training
from mobilenets.training.progress import extension, learning_rate_at, read_curve
from mobilenets.training.recipe import Recipe
from mobilenets.training.scoring import read_scores
from mobilenets.workflows.train import train

from .conftest import QUICK, InterruptAt

pytestmark = pytest.mark.slow

Start = Callable[..., Training]
CPU = torch.device("cpu")
LONGER = replace(QUICK, epochs=4, ema_decay=0.9)
SHORT = replace(LONGER, epochs=2)


class Said(InterruptAt):
    def __init__(self, step: int = 0) -> None:
        super().__init__(step)
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_the_schedule_is_that_of_all_epochs_and_the_curve_goes_on(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path, SHORT).fit()
    said = Said()
    training = start_training(tmp_path, LONGER, said)
    training.fit(resume=True)
    curve = read_curve(tmp_path)
    assert [point.epoch for point in curve] == [1, 2, 3, 4]
    ends = [learning_rate_at(6 * epoch + 5, 6, recipe) for epoch, recipe in enumerate((SHORT, SHORT, LONGER, LONGER))]
    assert [point.learning_rate for point in curve] == pytest.approx(ends)
    assert ends[2] > ends[1]
    assert said.lines[0] == "extended from 2 to 4 epochs"
    before, after = learning_rate_at(11, 6, SHORT), learning_rate_at(12, 6, LONGER)
    assert said.lines[2] == (
        f"the cosine schedule is computed anew over all 4; the learning rate goes on at {after:.2g}, "
        f"where it had come to {before:.2g}"
    )
    assert training.checkpoints.record == {"extended": "from 2 to 4 epochs after epoch 2"}


def test_killed_while_it_is_extended_it_ends_at_the_same_weights(start_training: Start, tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        start_training(tmp_path / name, SHORT).fit()
    whole = start_training(tmp_path / "whole", LONGER).fit(resume=True)
    with pytest.raises(TrainingInterruptedError):
        start_training(tmp_path / "parts", LONGER, InterruptAt(8)).fit(resume=True)
    said = Said()
    training = start_training(tmp_path / "parts", LONGER, said)
    assert same(whole, training.fit(resume=True))
    assert not any("extended" in line or "anew" in line for line in said.lines)
    assert training.checkpoints.record == {"extended": "from 2 to 4 epochs after epoch 2"}
    assert load_state(tmp_path / "parts", CPU).extensions == load_state(tmp_path / "whole", CPU).extensions


def test_a_run_that_was_not_finished_and_is_extended_twice(start_training: Start, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterruptedError):
        start_training(tmp_path, SHORT, InterruptAt(8)).fit()
    start_training(tmp_path, replace(SHORT, epochs=3)).fit(resume=True)
    training = start_training(tmp_path, LONGER)
    training.fit(resume=True)
    told = "from 2 to 3 epochs after epoch 1, step 2; from 3 to 4 epochs after epoch 3"
    assert training.checkpoints.record == {"extended": told}


@pytest.mark.parametrize("change", [{"epochs": 1}, {"epochs": 4, "weight_decay": 0.3}])
def test_fewer_epochs_or_another_difference_are_refused(
    start_training: Start, tmp_path: Path, change: dict[str, float]
) -> None:
    start_training(tmp_path, SHORT).fit()
    with pytest.raises(RunError, match=r"is another experiment: recipe epochs: 2 there, . now"):
        start_training(tmp_path, replace(SHORT, **change)).fit(resume=True)


def test_each_schedule_says_what_becomes_of_it() -> None:
    def said(**fields: object) -> str:
        return extension(replace(Recipe(epochs=20, learning_rate=0.1, warmup_epochs=0), **fields), 10, 100, 10)

    assert said(schedule="constant") == "the learning rate stays 0.1"
    assert said(schedule="step", gamma=0.5, decay_epochs=10) == "the learning rate goes on falling, from 0.05"
    assert said(schedule="cosine").startswith(
        "the cosine schedule is computed anew over all 20; the learning rate goes on at 0.05, where it had come to"
    )
    assert said(schedule="onecycle").startswith("the onecycle schedule is computed anew over all 20")
    assert said(schedule="cosine", progressive_start=0.5).endswith("; image sizes likewise")


def test_a_run_folder_of_train_is_trained_and_scored_anew_and_finished_ones_stay(tmp_path: Path) -> None:
    digits = load_dataset("digits")

    def few(split: ImageSplit) -> ImageSplit:
        return split.take(range(96))

    data, run = replace(digits, train=few(digits.train), test=few(digits.test)), tmp_path / "run"

    def go(epochs: int) -> tuple[SeedRun, list[str]]:
        said = Said()
        recipe = replace(QUICK, epochs=epochs)
        options = {"width_mult": 0.25, "image_size": 8, "device": "cpu", "progress": said}
        return train("mobilenet_v3_small", data, run, recipe=recipe, resume=True, **options), said.lines

    _, begun = go(1)
    assert f"nothing was saved in {run} yet: training starts from the beginning" in begun
    first, weights = read_scores(run), load_file(run / "model.safetensors")
    _, said = go(1)
    assert said[-1] == f"{run} is finished: 1 epoch is trained; nothing is trained again"
    assert read_scores(run) == first
    longer, said = go(3)
    assert "extended from 1 to 3 epochs" in said
    assert len(longer.curve) == 3
    assert read_scores(run).experiment != first.experiment
    assert not torch.equal(load_file(run / "model.safetensors")["classifier.weight"], weights["classifier.weight"])
    provenance = json.loads((run / "model.json").read_text())["provenance"]
    assert provenance["extended"] == "from 1 to 3 epochs after epoch 1"
    assert len(longer.test_readings) == 2
    again, said = go(3)
    assert said[-1] == f"{run} is finished: all 3 epochs are trained; nothing is trained again"
    assert again.test == longer.test
