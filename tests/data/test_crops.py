"""Random crops: inside the picture, within their bounds, and decided by seed and step alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.data.decoding import ATTEMPTS, RandomCrop, draw
from mobilenets.errors import RecipeError


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**63 - 1))
def test_every_crop_lies_inside_its_picture(width: int, height: int, seed: int) -> None:
    for drawn in draw(seed, 3, 2):
        left, top, right, bottom = RandomCrop().box(width, height, drawn)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_areas_and_ratios_are_spread_over_their_bounds() -> None:
    crop = RandomCrop(scale=(0.2, 0.6), ratio=(0.5, 2.0))
    boxes = np.array([crop.box(1000, 800, drawn) for drawn in draw(0, 0, 2000)])
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, ratios = wide * tall / 800_000, wide / tall
    assert (areas.min(), areas.max()) == pytest.approx((0.2, 0.6), abs=0.01)
    assert (ratios.min(), ratios.max()) == pytest.approx((0.5, 2.0), rel=0.02)
    assert np.median(areas) == pytest.approx(0.39, abs=0.03)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    assert boxes[:, 0].min() == 0
    assert boxes[:, 2].max() == 1000


def test_a_strip_gives_the_largest_crop_of_an_allowed_ratio() -> None:
    drawn = np.full((ATTEMPTS + 1, 2), 0.99)
    assert RandomCrop().box(1000, 30, drawn) == (480, 0, 520, 30)
    assert RandomCrop().box(30, 1000, drawn) == (0, 480, 30, 520)


def test_draws_depend_on_seed_and_step() -> None:
    assert np.array_equal(draw(1, 2, 8), draw(1, 2, 8))
    assert not np.array_equal(draw(1, 2, 8), draw(1, 3, 8))
    assert not np.array_equal(draw(1, 2, 8), draw(2, 2, 8))


@pytest.mark.parametrize(
    "bounds",
    [{"scale": (0.0, 1.0)}, {"scale": (0.5, 0.4)}, {"scale": (0.5, 1.1)}, {"ratio": (0.0, 1.0)}, {"ratio": (2, 1)}],
)
def test_bounds_a_crop_cannot_have(bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(RecipeError, match="a random crop's"):
        RandomCrop(**bounds)
