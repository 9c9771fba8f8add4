from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.data.loader import PreparedImages, Share
from mobilenets.data.splits import BalancedImages, balanced_order, class_weights

counts = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)


def labels_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)


@given(counts, st.integers(0, 2**40))
def test_every_class_comes_equally_often_and_no_image_much_oftener_than_its_class_mates(
    sizes: list[int], seed: int
) -> None:
    labels = labels_of(sizes)
    order = balanced_order(labels, seed)
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order], minlength=len(sizes))[np.array(sizes) > 0]
    assert drawn.max() - drawn.min() <= 1
    times = np.bincount(order, minlength=len(labels))
    for label in np.unique(labels):
        of_class = times[labels == label]
        assert of_class.max() - of_class.min() <= 1
    assert np.array_equal(order, balanced_order(labels, seed))


@given(counts)
def test_weights_make_up_for_the_sizes_and_have_mean_1_over_the_images(sizes: list[int]) -> None:
    labels = labels_of(sizes)
    weights = class_weights(labels, len(sizes))
    assert weights[labels].mean() == pytest.approx(1, rel=1e-5)
    totals = (weights * np.array(sizes))[np.array(sizes) > 0]
    assert totals == pytest.approx(totals[0], rel=1e-5)


def test_an_epoch_holds_to_the_contract_of_training_images(few_digits: PreparedImages) -> None:
    images = BalancedImages(few_digits)
    assert len(images) == len(few_digits)
    whole = list(images.epoch(7, 16))
    assert len(whole) == len(images) // 16
    entered = list(images.epoch(7, 16, first=2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(whole[2:], entered, strict=True))
    halves = [list(images.epoch(7, 16, share=Share(index, 2))) for index in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert np.array_equal(batch[0], np.concatenate([first[0], second[0]]))
        assert np.array_equal(batch[1], np.concatenate([first[1], second[1]]))
    assert not np.array_equal(whole[0][1], next(images.epoch(8, 16))[1])
