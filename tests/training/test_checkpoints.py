"""States within an epoch, forced resumes, and what stops a run without costing what is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mobilenets.data.loader import TrainingBatch
from mobilenets.errors import BadImage, BadImagesError, DataError, NonFiniteLossError, RunError
from mobilenets.progress import Silent, StepReport
from mobilenets.training.accumulation import FAILED_BATCH
from mobilenets.training.checkpoints import STATE, load_state
from mobilenets.training.loop import Training
from mobilenets.training.progress import read_curve

from .conftest import QUICK

pytestmark = pytest.mark.slow

Start = Callable[..., Training]
CPU = torch.device("cpu")


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


class Killed(BaseException):
    """Ends a training where it is, as a kill does: nothing is saved on the way out."""


class KillAt(Said):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def step(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def weights_of(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize(("seconds", "place"), [(0.0, (1, 1)), (3600.0, (1, 0))])
def test_a_killed_run_goes_on_from_its_last_state_within_the_epoch(
    start_training: Start, tmp_path: Path, seconds: float, place: tuple[int, int]
) -> None:
    recipe = replace(QUICK, ema_decay=0.9, label_smoothing=0.1)
    whole = weights_of(start_training(tmp_path / "whole", recipe).fit())
    killed = start_training(tmp_path / "parts", recipe, KillAt(8))
    killed.checkpoints.seconds = seconds
    with pytest.raises(Killed):
        killed.fit()
    progress = load_state(tmp_path / "parts", CPU).position
    assert (progress.epoch, progress.step) == place
    resumed = weights_of(start_training(tmp_path / "parts", recipe).fit(resume=True))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))
    curves = [[(p.epoch, p.loss, p.top1) for p in read_curve(tmp_path / name)] for name in ("whole", "parts")]
    assert curves[0] == curves[1]


def test_a_damaged_newest_state_costs_only_the_steps_since_the_one_before(
    start_training: Start, tmp_path: Path
) -> None:
    whole = weights_of(start_training(tmp_path / "whole").fit())
    with pytest.raises(Killed):
        start_training(tmp_path / "parts", QUICK, KillAt(9)).fit()
    (tmp_path / "parts" / STATE).write_bytes(b"half")
    said = Said()
    resumed = weights_of(start_training(tmp_path / "parts", QUICK, said).fit(resume=True))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))
    assert said.lines[0].startswith("warning: ")
    assert "state.pt is damaged" in said.lines[0]


def test_a_damaged_state_does_not_take_the_place_of_the_whole_one_before(
    start_training: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        start_training(tmp_path, QUICK, KillAt(9)).fit()
    (tmp_path / STATE).write_bytes(b"half")

    move = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == STATE:
            raise Killed
        return move(self, target)

    resumed = start_training(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)  # while the first state after the resume takes its place
        with pytest.raises(Killed):
            resumed.fit(resume=True)
    assert load_state(tmp_path, CPU).position.epoch == 0


def test_writing_states_takes_a_twentieth_of_the_time_at_most(start_training: Start, tmp_path: Path) -> None:
    training = start_training(tmp_path)
    training.checkpoints.seconds = 1e-6
    assert training.checkpoints.due
    training.checkpoints._took = 1e6
    assert not training.checkpoints.due
    training.checkpoints.seconds = 0
    assert training.checkpoints.due


def test_another_experiment_goes_on_only_if_forced(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    longer = replace(QUICK, epochs=3, learning_rate=1e-3)
    with pytest.raises(
        RunError, match=r"recipe epochs: 2 there, 3 now; .*`resume=True` `force=True` to go on all the same"
    ):
        start_training(tmp_path, longer).fit(resume=True)
    said = Said()
    forced = start_training(tmp_path, longer, said)
    forced.fit(resume=True, force=True)
    assert "warning: going on with another experiment, as forced: recipe epochs: 2 there, 3 now" in said.lines[0]
    assert len(read_curve(tmp_path)) == 3
    assert start_training(tmp_path, longer).checkpoints.experiment == load_state(tmp_path, CPU).experiment


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 32},
        {"batch_size": 8},
        {"ema_decay": 0.9},
        {"weight_decay": 0.3},
        {"optimizer": "rmsprop"},
        {"optimizer": "sgd"},
    ],
)
def test_a_forced_change_of_recipe_takes_effect(start_training: Start, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(Killed):
        start_training(tmp_path, QUICK, KillAt(8)).fit()
    changed = replace(QUICK, **change)
    training = start_training(tmp_path, changed)
    result = training.fit(resume=True, force=True)
    assert training.position.epoch == 2
    assert all(bool(value.isfinite().all()) for value in result.parameters())
    assert training.optimizer.param_groups[0]["weight_decay"] == changed.weight_decay


def test_a_state_of_another_network_can_not_be_forced(start_training: Start, tmp_path: Path) -> None:
    start_training(tmp_path).fit()
    other = start_training(tmp_path)
    other.model.classifier = nn.Linear(3, 10)
    with pytest.raises(RunError, match="its state does not fit this network and recipe"):
        other.fit(resume=True, force=True)


def test_the_batch_of_a_loss_that_is_no_number_is_kept(start_training: Start, tmp_path: Path) -> None:
    training = start_training(tmp_path)
    seen: list[tuple[Tensor, float]] = []

    def diverge(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((labels.clone(), float(images.mean())))
        logits = model(images)
        return logits.sum() * (float("inf") if len(seen) == 9 else 0.0), logits

    training.objective = diverge
    with pytest.raises(NonFiniteLossError, match=rf"epoch 2, step 3 of 6 .*its batch is in {FAILED_BATCH}"):
        training.fit()
    kept = torch.load(tmp_path / FAILED_BATCH, weights_only=True)
    assert torch.equal(kept["labels"], seen[-1][0])
    assert (kept["images"].dtype, tuple(kept["images"].shape)) == (torch.uint8, (16, 8, 8, 3))
    assert (kept["epoch"], kept["step"]) == (1, 2)
    assert set(kept["model"]) == set(training.model.state_dict())
    progress = load_state(tmp_path, CPU).position
    assert (progress.epoch, progress.step) == (1, 0)  # from before it, to go on from otherwise


def test_images_that_vanish_stop_it_with_all_done_so_far_saved(
    start_training: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights_of(start_training(tmp_path / "whole").fit())
    training = start_training(tmp_path / "parts")
    epoch = training.images.epoch

    def vanishing(seed: int, batch_size: int, **rest: Any) -> Iterator[TrainingBatch]:
        for number, batch in enumerate(epoch(seed, batch_size, **rest)):
            if training.position.epoch == 1 and number == 4:
                raise BadImagesError([BadImage("photos/cat/1.jpg", "no such file or directory")])
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(training.images, "epoch", vanishing)
        with pytest.raises(DataError, match=r"photos/cat/1\.jpg: no such file.*Saved before epoch 2, step 5 of 6"):
            training.fit()
    progress = load_state(tmp_path / "parts", CPU).position
    assert (progress.epoch, progress.step) == (1, 4)
    resumed = weights_of(start_training(tmp_path / "parts").fit(resume=True))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_memory_that_ran_out_once_is_remembered_by_the_state(start_training: Start, tmp_path: Path) -> None:
    said = KillAt(3)
    training = start_training(tmp_path, QUICK, said)
    sizes: list[int] = []

    def crowded(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(images))
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits = model(images)
        return nn.functional.cross_entropy(logits, labels), logits

    training.objective = crowded
    training.checkpoints.seconds = 0
    with pytest.raises(Killed):
        training.fit()
    assert sizes[:3] == [16, 8, 8]
    wanted = "out of memory: going on with 8 images at a time, their gradients added up to the recipe's 16"
    assert wanted in said.lines
    assert load_state(tmp_path, CPU).plan["parts"] == 2
