from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mobilenets.checkup.near_duplicates import aligned_correlation, correlation, halved

SIDE = 16


def smooth(seed: int, side: int = 6) -> NDArray[np.float32]:
    """An image without sharp edges, whose slopes tell where it moves."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)).astype(np.float32)


def shrunk(image: NDArray[np.float32], left: int, top: int, width: int, height: int) -> NDArray[np.float32]:
    """What is seen of a 64x64 image through a window, at 16x16, `[1, 16, 16, 3]`."""
    part = Image.fromarray(image.astype(np.uint8)).crop((left, top, left + width, top + height))
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(np.float32)[None]


@given(st.integers(0, 30), st.integers(0, 2), st.integers(0, 2), st.integers(60, 62), st.integers(60, 62))
@settings(deadline=None, max_examples=60)
def test_another_window_on_an_image_is_much_the_same_once_aligned(
    seed: int, left: int, top: int, width: int, height: int
) -> None:
    whole, window = shrunk(smooth(seed), 0, 0, 64, 64), shrunk(smooth(seed), left, top, width, height)
    aligned = aligned_correlation(whole, window)[0]
    assert aligned >= correlation(whole, window)[0] - 0.01
    assert aligned > 0.97
    assert aligned == pytest.approx(aligned_correlation(window, whole)[0], abs=1e-5)


@given(st.integers(0, 200), st.integers(201, 400))
@settings(deadline=None, max_examples=60)
def test_images_that_have_nothing_in_common_do_not_align(one: int, other: int) -> None:
    here, there = (shrunk(smooth(seed), 0, 0, 64, 64) for seed in (one, other))
    assert aligned_correlation(here, there)[0] < 0.8


@given(st.floats(0.3, 1.5), st.floats(-40, 40))
@settings(deadline=None)
def test_brightness_and_contrast_do_not_count(gain: float, more: float) -> None:
    whole = shrunk(smooth(1), 0, 0, 64, 64)
    assert aligned_correlation(whole, gain * whole + np.float32(more))[0] == pytest.approx(1, abs=1e-3)


def test_one_colour_and_no_images_are_answered_too() -> None:
    flat = np.full((1, SIDE, SIDE, 3), 90, np.float32)
    none = flat[:0]
    assert aligned_correlation(flat, shrunk(smooth(1), 0, 0, 64, 64)).tolist() == pytest.approx([0], abs=0.1)
    assert len(aligned_correlation(none, none)) == len(correlation(none, none)) == 0


def test_a_negative_is_no_near_duplicate() -> None:
    whole = shrunk(smooth(1), 0, 0, 64, 64)
    assert aligned_correlation(whole, 255 - whole)[0] < 0.5


def test_halving_is_the_mean_of_four() -> None:
    picture = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    assert halved(picture).shape == (2, 2, 2, 3)
    assert halved(picture)[1, 0, 1, 2] == picture[1, 0:2, 2:4, 2].mean()
