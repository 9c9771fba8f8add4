"""Test images decide nothing: they are read once, after training, and every reading is remembered."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import cut_validation
from mobilenets.data.loader import PreparedImages
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import RunError, TrainingInterruptedError
from mobilenets.evaluation.evaluation_set import SealedTestSet, labelled_set, readings
from mobilenets.evaluation.results import SeedRun
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training import run as running
from mobilenets.training import scoring
from mobilenets.training.progress import StopRequest, read_curve
from mobilenets.training.recipe import Recipe
from mobilenets.training.run import read_run, train_and_score, train_unseen
from mobilenets.training.scoring import Splits, Validator, prepare_splits, read_scores, score_test

from .conftest import QUICK, StartTraining

pytestmark = pytest.mark.slow

NETWORK: dict[str, Any] = {"name": "mobilenet_v3_small", "num_classes": 10, "width_mult": 0.25, "image_size": 8}
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    """A tenth of the digits, with validation images."""
    train, test = digits.train.take(np.arange(0, 1400, 7)), digits.test.take(np.arange(0, 350, 7))
    return cut_validation(replace(digits, train=train, test=test, digest="few"), 0.2)


def splits_of(dataset: Dataset) -> Splits:
    return prepare_splits(dataset, Preprocessing(image_size=8), skip_bad=False, progress=Silent())


@pytest.fixture(scope="session")
def splits(few: Dataset) -> Splits:
    return splits_of(few)


def learn(splits: Splits, run: Path, recipe: Recipe = QUICK, *, resume: bool = False, force: bool = False) -> SeedRun:
    return train_and_score(NETWORK, splits, recipe, run, resume=resume, device=CPU, progress=Silent(), force=force)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    return all(bool((first[name] == second[name]).all()) for name in second)


def test_a_run_is_scored_on_all_three_and_its_test_images_are_read_once(splits: Splits, tmp_path: Path) -> None:
    assert splits.validation is not None
    done = learn(splits, tmp_path / "run")
    assert (done.train.count, done.test.count) == (len(splits.train), len(splits.test))
    assert done.validation is not None
    assert done.validation.count == len(splits.validation)
    (reading,) = done.test_readings
    assert (reading.command, reading.images, reading.digest) == ("train", len(splits.test), "few")
    assert learn(splits, tmp_path / "run", resume=True) == done, "scored again"
    description = (tmp_path / "run" / "model.json").read_text()
    assert '"validation_fraction": "0.2"' in description
    assert '"data_digest": "few"' in description


def test_other_test_labels_change_neither_weights_nor_what_choices_go_by(few: Dataset, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).permutation(few.test.labels)
    assert not np.array_equal(labels, few.test.labels)
    wrong = replace(few, test=ImageSplit(few.test.sources, labels))
    ours, theirs = learn(splits_of(few), tmp_path / "ours"), learn(splits_of(wrong), tmp_path / "theirs")
    assert same_weights(tmp_path / "ours", tmp_path / "theirs")
    assert (ours.train, ours.validation) == (theirs.train, theirs.validation)
    assert [replace(point, seconds=0, images_per_second=0) for point in ours.curve] == [
        replace(point, seconds=0, images_per_second=0) for point in theirs.curve
    ]
    assert ours.test != theirs.test, "the other labels would have been noticed"


class Spied(PreparedImages):
    """Test images that must not be asked for before the run's weights are there."""

    def __init__(self, split: ImageSplit, run: Path) -> None:
        super().__init__(split, Preprocessing(image_size=8))
        self.run, self.asked = run, 0

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        assert (self.run / "model.safetensors").exists(), "read before training had ended"
        assert len(read_curve(self.run)) == QUICK.epochs
        assert len(readings(self.run)) == 1, "read before it was written down"
        self.asked += 1
        return super().batches(batch_size)


def test_a_spy_sees_one_reading_after_training(few: Dataset, splits: Splits, tmp_path: Path) -> None:
    spied = Spied(few.test, tmp_path / "run")
    learn(replace(splits, test=SealedTestSet(labelled_set(spied, few, "test"))), tmp_path / "run")
    assert spied.asked == 1


def test_the_seal_holds_until_training_has_ended_and_longer_on_request(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="sealed until training has ended"):
        splits.test.open(tmp_path, "train")
    assert readings(tmp_path) == ()
    train_unseen(NETWORK, splits, QUICK, tmp_path / "run", resume=False, device=CPU, progress=Silent())
    assert read_scores(tmp_path / "run").test is None
    with pytest.raises(RunError, match="was not scored on the test images yet"):
        read_run(tmp_path / "run", 0)
    splits.test.keep_until("a network is chosen")
    try:
        with pytest.raises(RunError, match="sealed until a network is chosen"):
            score_test(tmp_path / "run", splits, CPU, Silent(), "compare")
        with pytest.raises(RunError, match="sealed until a network is chosen"):
            splits.test.seen()
    finally:
        splits.test.keep_until(None)
    assert readings(tmp_path / "run") == ()
    score_test(tmp_path / "run", splits, CPU, Silent(), "compare")
    assert [one.command for one in readings(tmp_path / "run")] == ["compare"]


def test_a_reading_that_is_stopped_before_its_scores_are_written_is_repeated_and_both_are_remembered(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = scoring._write

    def stop(run: Path, scores: scoring.Scores) -> None:
        if scores.test is not None:
            raise KeyboardInterrupt
        write(run, scores)

    monkeypatch.setattr(scoring, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        learn(splits, tmp_path / "run")
    monkeypatch.undo()
    done = learn(splits, tmp_path / "run", resume=True)
    assert [one.repeats for one in done.test_readings] == [False, True]
    assert learn(splits, tmp_path / "run", resume=True) == done


def test_new_weights_in_the_same_folder_are_a_second_reading(splits: Splits, tmp_path: Path) -> None:
    learn(splits, tmp_path / "run")
    (tmp_path / "run" / "scores.json").unlink()
    again = learn(splits, tmp_path / "run", resume=True)
    assert [one.repeats for one in again.test_readings] == [False, False]


def test_a_run_that_was_forced_to_become_another_is_not_taken_for_scored(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learn(splits, tmp_path / "run")
    longer = replace(QUICK, epochs=3)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "score_trained", stop)
    with pytest.raises(KeyboardInterrupt):
        learn(splits, tmp_path / "run", longer, resume=True, force=True)
    monkeypatch.undo()
    done = learn(splits, tmp_path / "run", longer, resume=True)
    assert done.train != first.train
    assert len(done.test_readings) == 2
    shorter = learn(splits, tmp_path / "run", QUICK, resume=True, force=True)
    assert learn(splits, tmp_path / "run", QUICK, resume=True) == shorter, "scored again"


class StopWhile(Silent):
    """Asks to stop, by a real signal, while something goes on for the so-many-th time."""

    def __init__(self, what: str, time: int) -> None:
        self.what, self.left = what, time

    def update(self, what: str, done: int, total: int) -> None:
        if what == self.what:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("epoch", [1, 2])
def test_sigterm_during_a_validation_also_the_last_stops_the_run_and_it_goes_on(
    splits: Splits, tmp_path: Path, epoch: int
) -> None:
    whole = learn(splits, tmp_path / "whole")
    with pytest.raises(TrainingInterruptedError, match=f"stopped at epoch {epoch}, step 10 of 10") as stopped:
        train_and_score(
            NETWORK,
            splits,
            QUICK,
            tmp_path / "run",
            resume=False,
            device=CPU,
            progress=StopWhile("validating", epoch),
        )
    assert stopped.value.exit_code == 143
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = learn(splits, tmp_path / "run", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    assert [point.validation_loss for point in resumed.curve] == [point.validation_loss for point in whole.curve]


def test_a_validation_that_is_to_stop_ends_and_leaves_the_network_in_training(splits: Splits) -> None:
    model, stop = create_model(**NETWORK).train(), StopRequest()
    stop.signal = signal.SIGTERM
    assert Validator(splits, CPU, Silent())(model, torch.contiguous_format, 1000, stop) is None
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("ema", [None, 0.9])
def test_validating_after_each_epoch_changes_nothing_else(
    start_training: StartTraining, splits: Splits, tmp_path: Path, ema: float | None
) -> None:
    recipe = replace(QUICK, ema_decay=ema)
    plain, checked = (start_training(tmp_path / name, recipe) for name in ("plain", "checked"))
    checked.validate = Validator(splits, CPU, Silent())
    expected, found = plain.fit().state_dict(), checked.fit().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    curve = read_curve(tmp_path / "checked")
    assert all(point.validation_loss is not None and point.validation_top1 is not None for point in curve)
    assert all(point.validation_top1 is None for point in read_curve(tmp_path / "plain"))


def test_a_validator_leaves_the_network_as_it_found_it(splits: Splits) -> None:
    torch.manual_seed(0)
    model = create_model(**NETWORK).train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    early = Validator(splits, CPU, Silent())(model, torch.contiguous_format, 1, StopRequest())
    late = Validator(splits, CPU, Silent())(model, torch.contiguous_format, 10**6, StopRequest())
    assert early is not None
    assert early != late, "statistics that are all made up are not scored"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module for module in model.modules() if not module.training] == [frozen]
    assert (
        Validator(replace(splits, validation=None), CPU, Silent())(model, torch.contiguous_format, 1, StopRequest())
        is None
    )


def test_the_cut_is_the_same_for_every_seed(few: Dataset, digits: Dataset) -> None:
    assert few.validation is not None
    again = cut_validation(replace(digits, train=digits.train.take(np.arange(0, 1400, 7))), 0.2)
    assert again.validation is not None
    assert [one.name for one in again.validation.sources] == [one.name for one in few.validation.sources]
