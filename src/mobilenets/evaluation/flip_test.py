"""Flip test-time averaging: an image is answered together with its mirror image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images `[B, H, W, C]` -> logits `[B, K]`: `evaluate`'s predict function."""


def flip_averaged(predict: Answer) -> Answer:
    """Make a predict function that answers the mean logits of each image and of its mirror image, left to right.

    It takes twice the time, and is wrong for digits, letters or anything else that has a handedness.
    """

    def averaged(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        mean: NDArray[np.float32] = (np.asarray(predict(images)) + np.asarray(predict(mirrored))) * np.float32(0.5)
        return mean

    return averaged
