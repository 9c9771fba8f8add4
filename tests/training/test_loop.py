from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mobilenets.errors import NonFiniteLossError, RunError, TrainingInterruptedError
from mobilenets.training.loop import Training
from mobilenets.training.metric_log import read_curve
from mobilenets.training.observer import Silent, StepReport
from mobilenets.training.recipe import Recipe

from .conftest import QUICK

Start = Callable[..., Training]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class InterruptAt(Silent):
    """Presses Ctrl-C (a real SIGINT) after a number of steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_it_learns(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path, replace(QUICK, epochs=6)).fit()
    losses = [point.loss for point in read_curve(tmp_path)]
    assert len(losses) == 6
    assert losses[-1] < 0.6 * losses[0]


def test_two_runs_of_a_seed_are_bit_identical_and_another_seed_is_not(start_training: Start, tmp_path: Path) -> None:
    first = start_training(tmp_path / "a").fit()
    second = start_training(tmp_path / "b").fit()
    other = start_training(tmp_path / "c", replace(QUICK, seed=1)).fit()
    assert same_weights(first, second)
    assert not same_weights(first, other)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 11])  # an epoch has 6 steps: its middle, its end, its start
def test_ctrl_c_and_resume_end_at_the_weights_of_an_uninterrupted_run(
    start_training: Start, tmp_path: Path, step: int, ema_decay: float | None
) -> None:
    recipe = replace(QUICK, ema_decay=ema_decay)
    whole = start_training(tmp_path / "whole", recipe).fit()
    with pytest.raises(TrainingInterruptedError, match="--resume"):
        start_training(tmp_path / "parts", recipe, InterruptAt(step)).fit()
    resumed = start_training(tmp_path / "parts", recipe).fit(resume=True)
    assert same_weights(whole, resumed)
    whole_curve, parts_curve = read_curve(tmp_path / "whole"), read_curve(tmp_path / "parts")
    assert [(p.epoch, p.loss, p.top1) for p in parts_curve] == [(p.epoch, p.loss, p.top1) for p in whole_curve]


def test_the_handler_of_ctrl_c_is_given_back(start_training: Start, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterruptedError):
        start_training(tmp_path, QUICK, InterruptAt(2)).fit()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_non_finite_loss_names_its_step_and_leaves_the_weights_alone(start_training: Start, tmp_path: Path) -> None:
    training = start_training(tmp_path)
    calls = 0

    def diverge(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        logits = model(images)
        return logits.sum() * (float("nan") if calls == 8 else 0.0), logits

    training.objective = diverge
    with pytest.raises(NonFiniteLossError, match="nan in epoch 2, step 2 of 6") as caught:
        training.fit()
    assert "learning-rate" in str(caught.value)
    assert all(bool(p.isfinite().all()) for p in training.model.parameters())


def test_resume_refuses_another_experiment_and_names_the_difference(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    with pytest.raises(RunError, match=r"recipe learning_rate: 0.003 there, 0.5 now"):
        start_training(tmp_path, replace(QUICK, learning_rate=0.5)).fit(resume=True)


def test_resume_without_a_run_says_so(start_training: Start, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        start_training(tmp_path).fit(resume=True)


def test_the_learning_rate_follows_the_schedule(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    rates = [point.learning_rate for point in read_curve(tmp_path)]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.05 * QUICK.learning_rate


def test_gradients_are_clipped(start_training: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real_step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *args: Any) -> Any:
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))
        return real_step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    recipe = replace(QUICK, epochs=1, optimizer="sgd", learning_rate=1e-3)
    start_training(tmp_path / "free", recipe).fit()
    assert max(norms) > 0.02
    norms.clear()
    start_training(tmp_path / "clipped", replace(recipe, clip_grad_norm=0.01)).fit()
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_batch_larger_than_the_data_is_the_data(start_training: Start, tmp_path: Path) -> None:
    training = start_training(tmp_path, replace(QUICK, batch_size=10_000, epochs=1))
    training.fit()
    assert (training.batch_size, training.steps) == (96, 1)


def test_every_image_counts_once_an_epoch(start_training: Start, tmp_path: Path) -> None:
    seen: list[int] = []

    class Count(Silent):
        def step(self, report: StepReport) -> None:
            seen.append(report.step)

    start_training(tmp_path, observer=Count()).fit()
    assert seen == [1, 2, 3, 4, 5, 6] * 2


def test_a_defaulted_recipe_measures_how_to_compute(start_training: Start, tmp_path: Path) -> None:
    said: list[str] = []

    class Listen(Silent):
        def message(self, text: str) -> None:
            said.append(text)

    recipe = Recipe(epochs=1, batch_size=32, crop_padding=1, flip=False)
    start_training(tmp_path / "a", recipe, Listen()).fit()
    start_training(tmp_path / "b", recipe, Listen()).fit()
    assert "measured: float32, contiguous" in said[0]
    assert any("measured here before" in line for line in said)
