"""The validation images come from the training images, are the same for everyone, and are found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.held_out import cut_again, cut_validation, validation_record
from mobilenets.errors import DataError

MakeFolder = Callable[[dict[str, int]], Path]


def names(dataset: Dataset) -> tuple[set[str], set[str], set[str]]:
    """The images of each part."""
    assert dataset.validation is not None
    parts = (dataset.train, dataset.validation, dataset.test)
    train, validation, test = ({source.name for source in split.sources} for split in parts)
    return train, validation, test


def test_it_is_cut_from_the_training_images_alone(digits: Dataset) -> None:
    cut = cut_validation(digits, 0.1)
    train, validation, test = names(cut)
    assert not train & validation
    assert not (train | validation) & test
    assert train | validation == {source.name for source in digits.train.sources}
    assert test == {source.name for source in digits.test.sources}
    assert cut.validation is not None
    counts = np.bincount(cut.validation.labels)
    assert (counts == np.round(0.1 * np.bincount(digits.train.labels))).all()
    assert cut.digest == digits.digest
    assert "10% of each class's training images held out for validation (143 images)" in cut.notes


def test_nothing_is_cut_where_nothing_is_chosen(digits: Dataset) -> None:
    assert cut_validation(digits, 0.0) is digits


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range(digits: Dataset, fraction: float) -> None:
    with pytest.raises(DataError, match="validation_fraction must be from 0 to below 1"):
        cut_validation(digits, fraction)


def test_tiny_classes_keep_their_images_and_are_named(make_folder: MakeFolder) -> None:
    counts = {"train/a": 1, "train/b": 3, "train/c": 4, "train/d": 30, **{f"test/{name}": 1 for name in "abcd"}}
    cut = cut_validation(load_dataset(make_folder(counts)), 0.1)
    assert cut.validation is not None
    assert np.bincount(cut.validation.labels, minlength=4).tolist() == [0, 0, 1, 1]
    assert np.bincount(cut.train.labels).tolist() == [1, 3, 3, 29]
    assert cut.notes[-1] == "no validation images of a (1), b (3): too few training images to spare one"


def test_where_no_class_can_spare_one_there_is_no_validation(make_folder: MakeFolder) -> None:
    few = cut_validation(load_dataset(make_folder({"train/a": 2, "train/b": 3, "test/a": 1, "test/b": 1})), 0.1)
    assert few.validation is None
    assert few.cut is None
    assert "no class has enough training images to spare 10%" in few.notes[-1]


def test_a_folders_own_validation_images_are_taken_whole(make_folder: MakeFolder) -> None:
    counts = {f"{part}/{name}": number for part, number in (("train", 9), ("val", 4), ("test", 2)) for name in "ab"}
    folder = make_folder(counts)
    data = load_dataset(folder)
    assert data.validation is not None
    assert cut_validation(data, 0.5) is data
    assert {name.split("/")[0] for name in names(data)[1]} == {"val"}
    assert validation_record(data) == {"validation_fraction": "own"}
    assert cut_again(data, {}) == (data, None)
    shutil.rmtree(folder / "val")
    without = load_dataset(folder)
    assert without.validation is None
    assert without.digest != data.digest


def test_the_same_cut_is_found_again_from_what_a_run_remembers(digits: Dataset) -> None:
    cut = cut_validation(digits, 0.25)
    found, unknown = cut_again(digits, {"data_digest": digits.digest, **validation_record(cut)})
    assert unknown is None
    assert names(found) == names(cut)
    assert cut_again(cut, {}) == (cut, None)


def test_it_is_not_guessed_for_other_images_or_older_runs(digits: Dataset) -> None:
    record = {"data_digest": digits.digest, **validation_record(cut_validation(digits, 0.1))}
    other = replace(digits, digest="0" * 64)
    assert cut_again(other, record) == (other, "digits is not, or no longer, what the network was trained on")
    found, unknown = cut_again(digits, {"data_digest": digits.digest})
    assert found is digits
    assert unknown == "the network does not say which images it was validated on"
    assert validation_record(digits) == {}


@pytest.mark.parametrize(
    "wrong", [{"validation_fraction": "some"}, {"validation_seed": "x"}, {"validation_fraction": "2"}]
)
def test_a_record_that_can_not_be(digits: Dataset, wrong: dict[str, str]) -> None:
    record = {"data_digest": digits.digest, "validation_fraction": "0.1", "validation_seed": "0", **wrong}
    with pytest.raises(DataError, match="validation"):
        cut_again(digits, record)
