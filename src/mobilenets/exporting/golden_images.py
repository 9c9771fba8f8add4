"""The images that go into an exported file as golden: real ones of different classes, or made ones without data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilenets.preprocessing import Preprocessing

COUNT = 4
"""Enough to notice another network, preprocessing or arithmetic; more would only make files larger."""
_COARSE = 5


def made_images(preprocessing: Preprocessing, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured noise, uint8 `[count, H, W, C]`: the same on every machine.

    Neighbouring pixels of pictures are alike; of plain noise they are not, and most networks hardly answer to it. So
    random colours on a coarse grid are enlarged, with a gradient from dark to light across.
    """
    random = np.random.default_rng(seed)
    size, channels = preprocessing.image_size, preprocessing.channels
    ramp = np.linspace(-60, 60, _COARSE)[None, :, None]
    images = np.empty((count, size, size, channels), np.uint8)
    for image in images:
        coarse = np.clip(random.integers(0, 256, (_COARSE, _COARSE, channels)) + ramp, 0, 255).astype(np.uint8)
        for channel in range(channels):
            plane = Image.fromarray(coarse[:, :, channel]).resize((size, size), Image.Resampling.BILINEAR)
            image[:, :, channel] = np.asarray(plane)
    return images


def choose_golden(labels: NDArray[np.int64], count: int = COUNT, seed: int = 0) -> NDArray[np.int64]:
    """Positions of up to `count` images, seeded, of different classes as far as there are any; ascending.

    Args:
        labels: class index of each image, `[N]`.
        count: how many to choose.
        seed: the same seed chooses the same images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first_of_class = np.unique(labels[order], return_index=True)
    # Images whose class was not met before come first, in shuffled order; the others follow.
    fresh = np.zeros(len(labels), bool)
    fresh[first_of_class] = True
    chosen = np.concatenate([order[fresh], order[~fresh]])[:count]
    return np.sort(chosen).astype(np.int64)
