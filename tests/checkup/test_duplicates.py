from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from seeded_folder import jpeg, picture

from mobilenets.checkup import duplicates
from mobilenets.checkup.duplicates import close_hashes, exact_groups, near_pairs
from mobilenets.checkup.facts import Facts, look_at
from mobilenets.data.sources import ArraySource

COUNT = 40


def facts_of(image: Image.Image) -> Facts:
    return look_at(ArraySource("made", np.asarray(image.convert("RGB"))))


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        left, top = round(share * width), round(share * height)
        return image.crop((left, top, width - left // 2, height - top // 2))

    return crop


def compressed(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image, 30)))


PRINTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed to quality 30": compressed,
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped by 3 %, off centre": cropped(0.02),
    "cropped by 6 %, off centre": cropped(0.04),
}


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 63)), max_size=8),
    st.integers(0, 12),
)
def test_close_hashes_are_those_of_comparing_each_with_each(
    hashes: list[int], flips: list[tuple[int, int]], bits: int
) -> None:
    hashes = hashes + [hashes[place % len(hashes)] ^ (1 << bit) for place, bit in flips if hashes]
    every = combinations(range(len(hashes)), 2)
    wanted = {(i, j) for i, j in every if (hashes[i] ^ hashes[j]).bit_count() <= bits}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 5)
        found = [
            (int(a), int(b))
            for first, second in close_hashes(np.array(hashes, np.uint64), bits)
            for a, b in zip(first, second, strict=True)
        ]
    assert len(found) == len(set(found))
    assert set(found) == wanted


@pytest.mark.parametrize("name", PRINTS)
def test_prints_of_a_picture_are_found_and_other_pictures_are_not(name: str) -> None:
    """At least nine of ten prints are found, eight where much is cut off; no two pictures are taken for one."""
    originals = [picture(seed, "disc") for seed in range(COUNT)]
    facts = [facts_of(image) for image in (*originals, *map(PRINTS[name], originals))]
    pairs = near_pairs(facts)
    assert all(second - first == COUNT for first, second in pairs)
    assert len(pairs) >= (0.8 if "6 %" in name else 0.9) * COUNT


def test_the_same_pixels_are_a_group_whatever_their_file_and_no_near_pair() -> None:
    image = picture(1, "disc")
    facts = [facts_of(image), None, facts_of(picture(2, "disc")), facts_of(image), facts_of(image)]
    assert exact_groups(facts) == [(0, 3, 4)]
    assert near_pairs(facts) == []


def test_the_same_pixels_in_another_shape_are_another_picture() -> None:
    pixels = np.arange(48, dtype=np.uint8)
    wide, tall = (ArraySource("made", pixels.reshape(shape)) for shape in ((4, 4, 3), (2, 8, 3)))
    assert exact_groups([look_at(wide), look_at(tall)]) == []


def test_images_of_one_colour_are_not_alike() -> None:
    random = np.random.default_rng(0)
    flat = [Image.fromarray(random.integers(100, 103, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]
    assert near_pairs([facts_of(image) for image in flat]) == []
