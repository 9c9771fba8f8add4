"""Calibration images: from training data, spread over classes, seeded, prepared as for evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.data.datasets import Dataset
from mobilenets.data.splits import stratified_sample
from mobilenets.errors import DataError
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.search import draw_calibration

PLAIN = Preprocessing(image_size=12, resize_size=14)


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=80), count=st.integers(1, 100), seed=st.integers(0, 99))
def test_sample_is_as_even_as_the_classes_allow(labels: list[int], count: int, seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    drawn = stratified_sample(array, count, seed)
    assert len(drawn) == min(count, len(array)) == len(set(drawn.tolist()))
    assert (np.diff(drawn) > 0).all()
    taken, there = np.bincount(array[drawn], minlength=6), np.bincount(array, minlength=6)
    for one in range(6):
        for other in range(6):
            # No class has two more than another that still had images left.
            assert taken[one] <= taken[other] + 1 or taken[other] == there[other]


def test_the_seed_decides_and_nothing_else() -> None:
    labels = np.repeat(np.arange(4), 50).astype(np.int64)
    first, again, other = (stratified_sample(labels, 40, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_are_not_the_first_of_a_sorted_folder() -> None:
    labels = np.repeat(np.arange(10), 100).astype(np.int64)  # as a sorted folder has them
    drawn = stratified_sample(labels, 50, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [5] * 10
    # Within their classes too they come from everywhere: the first five of each would all have places below 5.
    assert (drawn % 100).max() > 50
    assert (drawn % 100 >= 5).mean() > 0.5


def test_images_are_training_images_prepared_as_for_evaluation(digits: Dataset) -> None:
    drawn = draw_calibration(digits.train, PLAIN, images=30, seed=1)
    positions = stratified_sample(digits.train.labels, 30, 1)
    expected = np.stack([PLAIN.arrange(digits.train.sources[position].open()) for position in positions])
    assert np.array_equal(drawn.images, expected)  # arranged, nothing flipped or moved
    assert np.array_equal(drawn.labels, digits.train.labels[positions])
    tests = {source.name for source in digits.test.sources}
    assert not tests.intersection(digits.train.sources[position].name for position in positions)
    assert (drawn.summary.images, drawn.summary.classes, drawn.summary.seed) == (30, 10, 1)


def test_batches_hold_every_image_once(digits: Dataset) -> None:
    drawn = draw_calibration(digits.train, PLAIN, images=30, seed=1)
    batches = list(drawn.batches(16))
    assert [len(batch) for batch in batches] == [16, 14]
    assert np.array_equal(np.concatenate(batches), drawn.images)


def test_no_images_are_refused(digits: Dataset) -> None:
    with pytest.raises(DataError, match="at least 1 image, not 0"):
        draw_calibration(digits.train, PLAIN, images=0)
    with pytest.raises(DataError, match="no training images"):
        draw_calibration(digits.train.take(np.array([], dtype=np.int64)), PLAIN)
