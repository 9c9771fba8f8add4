from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilenets.evaluation.predictions import evaluate_predictions

IMAGES = np.arange(2 * 2 * 4 * 1, dtype=np.uint8).reshape(2, 2, 4, 1)


def left_column(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits from the left column alone: a mirror image answers otherwise."""
    first = images[:, :, 0, 0].sum(axis=1).astype(np.float32) / 10
    return np.stack([first, np.ones_like(first)], axis=1)


def test_logits_of_image_and_mirror_image_are_averaged_and_the_scores_say_so() -> None:
    scored = evaluate_predictions(left_column, [(IMAGES, np.array([0, 1]))], ("a", "b"), flip_test=True)
    mean = (left_column(IMAGES) + left_column(IMAGES[:, :, ::-1])) / 2
    powers = np.exp(mean)
    assert scored.predictions.probabilities == pytest.approx(powers / powers.sum(axis=1, keepdims=True), rel=1e-5)
    assert scored.metrics.flip_test


def test_it_is_never_done_unasked() -> None:
    plain = evaluate_predictions(left_column, [(IMAGES, np.array([0, 1]))], ("a", "b"))
    powers = np.exp(left_column(IMAGES))
    assert plain.predictions.probabilities == pytest.approx(powers / powers.sum(axis=1, keepdims=True), rel=1e-5)
    assert not plain.metrics.flip_test
