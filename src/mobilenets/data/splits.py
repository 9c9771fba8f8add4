"""Hold out part of a data set for testing: stratified, seeded, and with every class on both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import DataError


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
    if not 0.0 < test_fraction < 1.0:
        raise DataError(f"test_fraction must lie between 0 and 1, not {test_fraction}: 0.2 holds out a fifth")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed must lie between 0 and {2**32 - 1}, not {seed}")
    # One stream for all classes: with a fresh one each, equally large classes would be cut in the same places.
    random = np.random.default_rng(seed)
    held_out: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(f"class {label} has {len(members)} image: at least 2 are needed, to train and to test on")
        count = min(max(1, round(test_fraction * len(members))), len(members) - 1)
        held_out.append(random.permutation(members)[:count])
    test = np.sort(np.concatenate(held_out)).astype(np.int64) if held_out else np.empty(0, np.int64)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), test)
    return train, test
