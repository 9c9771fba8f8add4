"""The held-out part is stratified, disjoint, seeded, and has every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.data.splits import SPARING, Cut, stratified_split, validation_split
from mobilenets.errors import DataError


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_properties(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts), dtype=np.int64), counts))
    train, test = stratified_split(labels, test_fraction=fraction, seed=seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    for label, count in enumerate(counts):
        held_out = int((labels[test] == label).sum())
        assert 1 <= held_out <= count - 1
        assert abs(held_out - fraction * count) <= 1
    again = stratified_split(labels, test_fraction=fraction, seed=seed)
    assert np.array_equal(again[0], train)
    assert np.array_equal(again[1], test)


def test_another_seed_holds_out_others() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int64), 50)
    first, second = (stratified_split(labels, test_fraction=0.2, seed=seed)[1] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_classes_of_equal_size_are_not_cut_alike() -> None:
    test = stratified_split(np.repeat(np.arange(2, dtype=np.int64), 50), test_fraction=0.2, seed=0)[1]
    assert not np.array_equal(test[:10], test[10:] - 50)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(DataError, match="test_fraction must lie between 0 and 1"):
        stratified_split(np.zeros(4, np.int64), test_fraction=fraction, seed=0)


def test_a_seed_out_of_range_and_a_class_of_one() -> None:
    with pytest.raises(DataError, match="seed must lie"):
        stratified_split(np.zeros(4, np.int64), test_fraction=0.5, seed=-1)
    with pytest.raises(DataError, match="class 1 has 1 image"):
        stratified_split(np.array([0, 0, 1]), test_fraction=0.5, seed=0)


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_split_properties(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts), dtype=np.int64), counts))
    kept, taken = validation_split(labels, Cut(fraction, seed))
    assert sorted([*kept, *taken]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(taken) > 0).all()
    for label, count in enumerate(counts):
        held_out = int((labels[taken] == label).sum())
        assert held_out <= count - 1, "a class without an image to train on"
        assert held_out >= (count >= SPARING)
        assert abs(held_out - fraction * count) <= 1
    again = validation_split(labels, Cut(fraction, seed))
    assert np.array_equal(again[1], taken)


def test_the_validation_cut_is_not_drawn_as_the_test_split_is() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int64), 50)
    test = stratified_split(labels, test_fraction=0.1, seed=0)[1]
    assert not np.array_equal(validation_split(labels, Cut(0.1, 0))[1], test)


def test_a_validation_fraction_out_of_range() -> None:
    with pytest.raises(DataError, match="validation_fraction must lie between 0 and 1, not 1"):
        validation_split(np.zeros(4, np.int64), Cut(1.0))
