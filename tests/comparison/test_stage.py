"""The trainings of a comparison: what stops them before any begins, and what more epochs make of those that ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mobilenets.comparison.networks import ComparisonRuns, compared_networks, extension_notes
from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import cut_validation
from mobilenets.errors import RecipeError
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.progress import read_curve
from mobilenets.training.recipe import Recipe
from mobilenets.training.scoring import prepare_splits

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=1, batch_size=32, flip=False, crop_padding=1, precision="float32", memory_format="contiguous")


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def stage(digits: Dataset, tmp_path: Path) -> ComparisonRuns:
    few = replace(digits, train=digits.train.take(range(96)), test=digits.test.take(range(40)))
    data = cut_validation(few, 0.2)
    splits = {8: prepare_splits(data, Preprocessing(image_size=8), skip_bad=False, progress=Silent())}
    return ComparisonRuns(data, splits, RECIPE, tmp_path, torch.device("cpu"), Said())


def test_more_epochs_extend_what_was_trained_and_a_note_says_so(stage: ComparisonRuns) -> None:
    networks = compared_networks(("mobilenet_v2", "mobilenet_v3_small"), (0.25,), (8,))
    runs, _ = stage.train_all(networks[:1], 1)
    assert extension_notes(runs[networks[0]]) == ()
    longer = replace(stage, recipe=replace(RECIPE, epochs=2))
    runs, failures = longer.train_all(networks, 1)
    assert failures == ()
    assert [len(read_curve(runs[network][0].folder)) for network in networks] == [2, 2]
    (note,) = extension_notes(run for network in networks for run in runs[network])
    assert note.startswith("1 of 2 trainings were begun with fewer epochs and extended")
    assert isinstance(stage.progress, Said)
    assert stage.progress.lines.count("extended from 1 to 2 epochs") == 1


def test_a_network_that_single_images_can_not_train_is_told_before_any_is_trained(
    stage: ComparisonRuns, tmp_path: Path
) -> None:
    single = replace(stage, recipe=replace(RECIPE, batch_size=1))
    networks = compared_networks(("mobilenet_v2", "mobilenet_v4_conv_small"), (0.25,), (8,))
    with pytest.raises(RecipeError, match=r"mobilenet_v4_conv_small.*: with 1 image at a time .* try `batch_size=2`"):
        single.train_all(networks, 1)
    assert not (tmp_path / "runs").exists()
