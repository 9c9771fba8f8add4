from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import prepare
from mobilenets.errors import ModelError, NonFiniteLossError, RunError, TrainingError, TrainingInterruptedError
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training import loop
from mobilenets.training.checkpoints import Experiment, load_state
from mobilenets.training.loop import Training
from mobilenets.training.optimizer import CrossEntropy
from mobilenets.training.plan import ComputePlan, remember_parts
from mobilenets.training.progress import read_curve
from mobilenets.training.recipe import Recipe

from .conftest import QUICK, InterruptAt

pytestmark = pytest.mark.slow

Start = Callable[..., Training]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Said(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


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
def test_ctrl_c_and_resume_end_at_the_weights_of_an_uninterrupted_run(
    start_training: Start, tmp_path: Path, ema_decay: float | None
) -> None:
    recipe = replace(QUICK, ema_decay=ema_decay)
    whole = start_training(tmp_path / "whole", recipe).fit()
    whole_curve = [(point.epoch, point.loss, point.top1) for point in read_curve(tmp_path / "whole")]
    stops = (1, 6, 12) if ema_decay is None else (5, 7)
    for step in stops:  # an epoch has 6 steps: its start, middle and end
        parts = tmp_path / f"stopped-at-{step}"
        with pytest.raises(TrainingInterruptedError, match="is saved"):
            start_training(parts, recipe, InterruptAt(step)).fit()
        resumed = start_training(parts, recipe).fit(resume=True)
        assert same_weights(whole, resumed), step
        assert [(point.epoch, point.loss, point.top1) for point in read_curve(parts)] == whole_curve, step


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_with_everything_on_it_resumes_to_the_same_weights(
    start_training: Start, tmp_path: Path, optimizer: Any
) -> None:
    recipe = replace(
        QUICK,
        optimizer=optimizer,
        learning_rate=1e-3,
        schedule="onecycle",
        decay_depthwise=False,
        label_smoothing=0.1,
        ema_decay=0.9,
        flip=True,
        crop="resized",
        jitter_brightness=0.1,
        jitter_saturation=0.1,
        augment="rand",
        erasing=0.3,
        mixup_alpha=0.2,
        cutmix_alpha=1.0,
    )
    whole = start_training(tmp_path / "whole", recipe).fit()
    with pytest.raises(TrainingInterruptedError, match="is saved"):
        start_training(tmp_path / "parts", recipe, InterruptAt(8)).fit()
    said = Said()
    assert same_weights(whole, start_training(tmp_path / "parts", recipe, said).fit(resume=True))
    assert any("batch norm re-estimated" in line for line in said.lines)
    whole_curve, curve = (read_curve(tmp_path / name) for name in ("whole", "parts"))
    assert [(p.loss, p.top1) for p in curve] == [(p.loss, p.top1) for p in whole_curve]


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
    assert "lower learning_rate" in str(caught.value)
    assert all(bool(p.isfinite().all()) for p in training.model.parameters())


def test_resume_refuses_another_experiment_and_names_the_difference(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    with pytest.raises(RunError, match=r"recipe learning_rate: 0.003 there, 0.5 now"):
        start_training(tmp_path, replace(QUICK, learning_rate=0.5)).fit(resume=True)


def test_a_refused_resume_changes_nothing(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(RunError):
        start_training(tmp_path, replace(QUICK, epochs=1)).fit(resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_resume_without_a_run_says_so(start_training: Start, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        start_training(tmp_path).fit(resume=True)


def test_statistics_of_images_sorted_by_class_are_measured_on_mixed_batches(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm is re-estimated after so short a training; on batches of one class it would be wrong."""
    order = np.argsort(digits.train.labels[:210], kind="stable")
    images = prepare(digits.train.take(order), Preprocessing(image_size=8))
    streams: list[list[NDArray[np.int64]]] = []
    stream = images.stream

    def watched(batches: Iterable[NDArray[np.int64]]) -> Iterator[Any]:
        streams.append(list(batches))
        return stream(streams[-1])

    monkeypatch.setattr(images, "stream", watched)
    model = create_model("mobilenet_v3_small", num_classes=10, width_mult=0.25, image_size=8)
    recipe, cpu = replace(QUICK, epochs=1, batch_size=50), torch.device("cpu")
    said = Said()
    Training(
        model, images, recipe, tmp_path, experiment=Experiment({}, {}, {}), device=cpu, progress=said, classes=10
    ).fit()
    assert any("batch norm re-estimated" in line for line in said.lines)
    measured_on = streams[-1]
    assert sorted(np.concatenate(measured_on).tolist()) == list(range(210))
    assert [len(batch) for batch in measured_on] == [42] * 5  # no small left-over, which would weigh as much
    assert all(len(set(images.labels[batch].tolist())) >= 8 for batch in measured_on)


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


def test_every_image_is_seen_once_an_epoch_in_another_order(
    start_training: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = start_training(tmp_path)
    epochs: list[list[int]] = []
    stream = training.images.stream

    def watched(batches: Iterable[NDArray[np.int64]]) -> Iterator[Any]:
        kept = [batch.tolist() for batch in batches]
        epochs.append([index for batch in kept for index in batch])
        return stream(kept)

    monkeypatch.setattr(training.images, "stream", watched)
    training.fit()
    first, second = epochs[1:3]  # the first stream is the batch that is measured on, the last re-estimates batch norm
    assert sorted(first) == sorted(second) == list(range(96))
    assert first != second


def test_a_defaulted_recipe_measures_how_to_compute(start_training: Start, tmp_path: Path) -> None:
    said = Said()
    recipe = Recipe(epochs=1, batch_size=32, crop_padding=1, flip=False)
    start_training(tmp_path / "a", recipe, said).fit()
    start_training(tmp_path / "b", recipe, said).fit()
    assert "measured: float32, contiguous" in said.lines[1]
    assert any("measured here before" in line for line in said.lines)


def test_memory_that_runs_out_while_measuring_how_to_compute_halves_the_batch(
    start_training: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def choose(model: object, images: torch.Tensor, *_: object) -> tuple[ComputePlan, str]:
        measured.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ComputePlan("float32", "contiguous"), "measured"

    monkeypatch.setattr(loop, "choose_plan", choose)
    said = Said()
    training = start_training(tmp_path, replace(QUICK, epochs=1), said)
    training.fit()
    assert measured == [16, 8, 4]
    assert training.compute.parts == 4
    assert "out of memory: going on with 4 images at a time, their gradients added up to the recipe's 16" in said.lines


def test_answers_to_validation_images_that_are_no_numbers_are_a_training_that_diverged(
    start_training: Start, tmp_path: Path
) -> None:
    def diverged(*_: object) -> tuple[float, float]:
        raise ModelError("the network's answer to image 0 is infinite or not a number")

    training = start_training(tmp_path)
    training.validate = diverged
    with pytest.raises(NonFiniteLossError, match=r"after epoch 1 of .* answer to image 0 .*`resume=True` `force=True`"):
        training.fit()
    assert load_state(tmp_path, torch.device("cpu")).position.epoch == 0


class OutOfMemory:
    """An objective that runs out of memory once, when the forward pass has moved batch norm's statistics."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        answered = CrossEntropy()(model, images, labels)
        self.left -= 1
        if self.left == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answered


def test_a_run_that_ran_out_of_memory_is_the_run_of_smaller_parts(start_training: Start, tmp_path: Path) -> None:
    recipe = replace(QUICK, ema_decay=0.9)
    (tmp_path / "small").mkdir()
    remember_parts(tmp_path / "small", 2)
    start_training(tmp_path / "small", recipe).fit()
    interrupted = start_training(tmp_path / "run", recipe)
    interrupted.objective = OutOfMemory(1)
    interrupted.fit()
    assert interrupted.compute.parts == 2
    found, wanted = (load_state(tmp_path / name, torch.device("cpu")) for name in ("run", "small"))
    assert found.ema is not None
    assert wanted.ema is not None
    # Of the states, since the statistics of what `fit` returns are measured anew.
    assert all(torch.equal(found.model[name], wanted.model[name]) for name in wanted.model)
    assert all(torch.equal(found.ema[name], wanted.ema[name]) for name in wanted.ema)


def test_running_out_of_memory_where_no_smaller_parts_help_is_one_line(start_training: Start, tmp_path: Path) -> None:
    training = start_training(tmp_path)

    def step() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory")

    training.optimizer.step = step  # type: ignore[method-assign, assignment]
    with pytest.raises(
        TrainingError, match=r"out of memory in epoch 1, step 1.*`resume=True` goes on from the state saved"
    ):
        training.fit()
