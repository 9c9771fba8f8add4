from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.data.splits import ALONE, fold_of
from mobilenets.errors import DataError
from mobilenets.training.linear_head import fit_head


def clouds(sizes: list[int], seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A cloud of points for each class, features of very different scales, one of them constant."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    centres = 2 * np.random.default_rng(9).normal(size=(len(sizes), 6))
    points = (centres[labels] + spread * random.normal(size=(len(labels), 6))) * [1, 100, 0.01, 1, 1, 0] + 5
    return points.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_it_tells_clouds_apart_that_it_has_not_seen(classes: int) -> None:
    points, labels = clouds([20] * classes)
    done: list[tuple[int, int]] = []
    head = fit_head([points], labels, classes, progress=lambda now, of: done.append((now, of)))
    assert head.weight.shape == (classes, 6)
    others, truth = clouds([100] * classes, seed=1)
    assert (head(others).argmax(axis=1) == truth).mean() > 0.9
    assert head.how == "by 5-fold cross-validation within the training images"
    assert head.converged
    assert done[-1][0] == done[-1][1]
    again = fit_head([points], labels, classes)
    assert np.array_equal(head.weight, again.weight)


def test_balance_lets_a_rare_class_be_recognised() -> None:
    points, labels = clouds([300, 8, 300], spread=3.0)
    others, truth = clouds([200, 200, 200], seed=1, spread=3.0)

    def recalls(balance: bool) -> list[float]:
        answers = fit_head([points], labels, 3, balance=balance)(others).argmax(axis=1)
        return [float((answers[truth == label] == label).mean()) for label in range(3)]

    plain, balanced = recalls(False), recalls(True)
    assert balanced[1] > plain[1] + 0.1
    assert np.mean(balanced) > np.mean(plain)


def test_a_class_of_one_image_is_fitted_too_and_a_class_of_none_refused() -> None:
    points, labels = clouds([1, 30, 30])
    assert fit_head([points], labels, 3)(points[:1]).argmax() == 0
    single = fit_head([points[[0, 5, 40]]], labels[[0, 5, 40]], 3)
    assert single.how == "not chosen: every class has one image"
    with pytest.raises(DataError, match="images of every class"):
        fit_head([points], labels, 4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**31))
def test_folds_part_every_class_evenly(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    fold = fold_of(labels, 5, seed)
    for label, size in enumerate(sizes):
        of_class = fold[labels == label]
        if size == 1:
            assert of_class.tolist() == [ALONE]
        else:
            parts = np.bincount(of_class, minlength=5)
            assert parts.max() - parts.min() <= 1
