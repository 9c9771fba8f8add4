"""Batches of one and two images, and data sets of hardly more: they train, or are refused before anything begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilenets.cli.main import main
from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import prepare
from mobilenets.errors import DataError, RecipeError
from mobilenets.models.registry import create_model, list_models
from mobilenets.models.saved import SavedNetwork
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.quantization.finetune import finetune
from mobilenets.training.accumulation import check_single_images
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.distributed import Team
from mobilenets.training.loop import Training
from mobilenets.training.recipe import Recipe

from .conftest import QUICK

ONE = replace(QUICK, epochs=1, batch_size=1)
NORMALISED_AFTER_THE_POOL = [name for name in list_models() if name.startswith("mobilenet_v4")]
Begin = Callable[..., Training]


@pytest.fixture
def begin(digits: Dataset, tmp_path: Path) -> Begin:
    def start(name: str, recipe: Recipe, count: int, size: int = 8) -> Training:
        torch.manual_seed(0)
        model = create_model(name, num_classes=10, width_mult=0.25, image_size=size)
        images = prepare(digits.train.take(range(count)), Preprocessing(image_size=size))
        experiment, cpu = Experiment({}, recipe.to_dict(), {}), torch.device("cpu")
        return Training(
            model, images, recipe, tmp_path, experiment=experiment, device=cpu, progress=Silent(), classes=10
        )

    return start


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_on_one_image_at_a_time(begin: Begin, name: str) -> None:
    if name in NORMALISED_AFTER_THE_POOL:
        with pytest.raises(
            RecipeError, match=r"1 image at a time .* batch norm penultimate\S+ has .*; try `batch_size=2`$"
        ):
            begin(name, ONE, 3)
        return
    trained = begin(name, ONE, 3).fit()
    assert all(bool(torch.isfinite(value).all()) for value in trained.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_on_two_with_one_left_over(begin: Begin, name: str) -> None:
    training = begin(name, replace(ONE, batch_size=2), 3)
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    after = training.fit().state_dict()
    assert training.steps == 1
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert any(key.endswith("running_var") for key in moved)
    assert any(key.endswith("conv.weight") for key in moved)


@pytest.mark.parametrize("count", [1, 2])
def test_a_data_set_smaller_than_its_batch(begin: Begin, count: int) -> None:
    whole = replace(QUICK, epochs=1)
    if count == 1:
        with pytest.raises(RecipeError, match=r"give at least 2 training images$"):
            begin("mobilenet_v4_conv_small", whole, count)
    else:
        begin("mobilenet_v4_conv_small", whole, count).fit()
    begin("mobilenet_v2", whole, count).fit()


def test_no_image_at_all(begin: Begin) -> None:
    with pytest.raises(DataError, match="there are no training images"):
        begin("mobilenet_v2", QUICK, 0)


@pytest.mark.slow
def test_images_that_are_small_in_the_first_epochs_only(begin: Begin) -> None:
    growing = replace(ONE, epochs=2, progressive_start=0.05)
    with pytest.raises(RecipeError, match=r"1 image at a time of 8x8 pixels, batch norm blocks\.\S+ has"):
        begin("mobilenet_v2", growing, 3, size=96)
    begin("mobilenet_v2", replace(growing, progressive_start=None), 3, size=96)


@pytest.mark.parametrize("what", ["bn", "backbone"])
def test_frozen_norms_take_single_images(begin: Begin, what: str) -> None:
    training = begin("mobilenet_v4_conv_small", replace(ONE, freeze=what), 2)
    before = training.model.classifier.weight.clone()
    assert not torch.equal(training.fit().classifier.weight, before)


def test_processes_share_a_batch_by_single_images(digits: Dataset) -> None:
    model = create_model("mobilenet_v4_conv_small", num_classes=10, width_mult=0.25, image_size=8)
    images = prepare(digits.train.take(range(9)), Preprocessing(image_size=8))
    pair = replace(ONE, batch_size=2)
    with pytest.raises(RecipeError, match="try `batch_size=4`, or `sync_norm=True`, which normalises over all"):
        check_single_images(model, images, pair, processes=2)
    check_single_images(model, images, replace(pair, sync_norm=True), processes=2)
    check_single_images(model, images, replace(pair, batch_size=4), processes=2)
    with pytest.raises(RecipeError, match="at least 2 training images a process"):
        check_single_images(model, images, QUICK, processes=8)


def test_fewer_images_than_processes_or_none() -> None:
    Team(count=4).check_images(4)
    with pytest.raises(DataError, match="3 training images for 4 processes; start at most 3, or give more images"):
        Team(count=4).check_images(3)


@pytest.mark.slow
def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--data", "digits", "--recipe", "quick", "--image-size", "8", "--batch-size", "1"]
    out = tmp_path / "run"
    assert main(["train", "mobilenet_v4_conv_small", *arguments, "--width-mult", "0.25", "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("mobilenets: with 1 image at a time of 8x8 pixels, batch norm penultimate")
    assert said.endswith("nothing to normalise over; try --batch-size 2")
    assert not (out / "state.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v4_conv_small", "mobilenet_v3_small"])
def test_fine_tuning_for_8_bits_takes_single_images(digits: Dataset, name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, width_mult=0.25, image_size=8)
    model(torch.randn(8, 3, 8, 8))
    saved = SavedNetwork(model.eval(), digits.classes, Preprocessing(image_size=8), {})
    few = replace(digits, train=digits.train.take(np.arange(3)))
    tuned = finetune(saved, few, batch_size=1, max_steps=3, calibration_images=1)
    assert all(bool(torch.isfinite(value).all()) for value in tuned.model.state_dict().values())
