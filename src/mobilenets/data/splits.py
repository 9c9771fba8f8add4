"""Hold out part of a data set: for testing with every class on both sides, for validation as far as images reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import DataError

VALIDATION_SEED: Final = 0
"""Of every validation cut: networks that are compared, and all seeds of their training, must be judged on the same."""
SPARING: Final = 4
"""A class of so many training images gives one for validation even where the share would round to none."""
_VALIDATION_STREAM: Final = 1  # so that the cut is not drawn by the very numbers a test split was drawn by


@dataclass(frozen=True)
class Cut:
    """How validation images were cut from the training images: which share of each class, drawn with which seed."""

    fraction: float
    seed: int = VALIDATION_SEED


def stratified_split(
    labels: NDArray[np.int64], *, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split image positions into train and test, both in ascending order.

    Of each class the nearest whole number to `test_fraction` of its images is held out, at least one image and never
    all. scikit-learn's own `stratify` is not used, since it can leave a small class out of the test set.

    Args:
        labels: class index of each image, `[N]`.
        test_fraction: share of the images to hold out, between 0 and 1.
        seed: the same seed gives the same split.

    Raises:
        DataError: `test_fraction` or `seed` is out of range, or a class has fewer than 2 images.
    """
    _check(test_fraction, seed, "test_fraction")
    found, counts = np.unique(labels, return_counts=True)
    for label, count in zip(found, counts, strict=True):
        if count < 2:
            raise DataError(f"class {label} has {count} image: at least 2 are needed, to train and to test on")
    return _hold_out(
        labels, lambda count: min(max(1, round(test_fraction * count)), count - 1), np.random.default_rng(seed)
    )


def validation_split(labels: NDArray[np.int64], cut: Cut) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split positions of training images into those that stay and those for validation, both in ascending order.

    Of each class the nearest whole number to the fraction is taken, one where that is none and the class has 4 images
    or more. At least one stays for training, so a class of few images may have none in validation.

    Args:
        labels: class index of each training image, `[N]`.
        cut: which share, and the seed.

    Raises:
        DataError: fraction or seed is out of range.
    """
    _check(cut.fraction, cut.seed, "validation_fraction")

    def share(count: int) -> int:
        return min(max(round(cut.fraction * count), int(count >= SPARING)), count - 1)

    return _hold_out(labels, share, np.random.default_rng((cut.seed, _VALIDATION_STREAM)))


def _check(fraction: float, seed: int, name: str) -> None:
    if not 0.0 < fraction < 1.0:
        raise DataError(f"{name} must lie between 0 and 1, not {fraction}: 0.2 holds out a fifth")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed must lie between 0 and {2**32 - 1}, not {seed}")


def _hold_out(
    labels: NDArray[np.int64], share: Callable[[int], int], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take `share` of each class's count out; returns the positions that stay and those held out."""
    # One stream for all classes: with a fresh one each, equally large classes would be cut in the same places.
    held_out: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out.append(random.permutation(members)[: share(len(members))])
    held = np.sort(np.concatenate(held_out)).astype(np.int64) if held_out else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), held), held
