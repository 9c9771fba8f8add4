from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from seeded_folder import jpeg, picture

from mobilenets.checkup import near_duplicates
from mobilenets.checkup.examination import ImageFacts, image_facts
from mobilenets.checkup.near_duplicates import (
    MIN_ALIGNED,
    MIN_ALIGNED_HALF,
    MIN_CORRELATION,
    MOST_PARTNERS,
    NEAR_BITS,
    PER_BIT,
    aligned_correlation,
    close_hashes,
    correlation,
    exact_groups,
    halved,
    near_pairs,
)
from mobilenets.data.sources import ArraySource

COUNT = 40


def facts_of(image: Image.Image) -> ImageFacts:
    return image_facts(ArraySource("made", np.asarray(image.convert("RGB"))))


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        left, top = round(share * width), round(share * height)
        return image.crop((left, top, width - left // 2, height - top // 2))

    return crop


def compressed(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image, 20)))


def shots(seed: int) -> list[ImageFacts]:
    """An image, and what might be made of it."""
    image = picture(seed, "square")
    return [
        facts_of(one)
        for one in (image, compressed(image), image.rotate(2), image, ImageEnhance.Color(image).enhance(0.3))
    ]


PRINTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed to quality 20": compressed,
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "cropped by 3 %, off centre": cropped(0.02),
    "cropped by 6 %, off centre": cropped(0.04),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BICUBIC),
}


SHOTS = [shots(seed) for seed in range(6)]
Hashes = st.lists(st.integers(0, 2**64 - 1), max_size=12)


@settings(deadline=None)
@given(Hashes, Hashes, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 63)), max_size=8), st.integers(0, 12))
def test_close_hashes_are_those_of_comparing_each_with_each(
    drawn: list[int], others: list[int], flips: list[tuple[int, int]], bits: int
) -> None:
    copies = [drawn[place % len(drawn)] ^ (1 << bit) for place, bit in flips if drawn]
    hashes, others = drawn + copies, others + copies
    among = {(i, j) for i, j in combinations(range(len(hashes)), 2) if (hashes[i] ^ hashes[j]).bit_count() <= bits}
    between = {
        (i, j) for i, one in enumerate(hashes) for j, other in enumerate(others) if (one ^ other).bit_count() <= bits
    }
    for columns, wanted in ((None, among), (np.array(others, np.uint64), between)):
        found = _found(np.array(hashes, np.uint64), columns, bits)
        assert len(found) == len(set(found))
        assert set(found) == wanted


def _found(hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None, bits: int) -> list[tuple[int, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_ROWS", 3)
        patch.setattr(near_duplicates, "_COLUMNS", 5)
        tiles = list(close_hashes(hashes, others, bits, np.zeros(len(hashes), np.bool_)))
    return [pair for first, second in tiles for pair in zip(first.tolist(), second.tolist(), strict=True)]


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["train", "test"])), max_size=14), st.integers(1, 3))
def test_near_pairs_are_those_of_looking_at_every_two(drawn: list[tuple[int, str]], most: int) -> None:
    """Against brute force: all pairs where none is cut off, and otherwise every image's first ones of each split."""
    drawn.sort(key=lambda one: one[1], reverse=True)
    facts = [SHOTS[scene][number % len(SHOTS[scene])] for number, (scene, _) in enumerate(drawn)]
    splits = [split for _, split in drawn]
    wanted, kept = set(), Counter[tuple[int, str]]()
    for i, j in combinations(range(len(facts)), 2):
        one, other = facts[i], facts[j]
        if one.digest != other.digest and (one.hash ^ other.hash).bit_count() <= NEAR_BITS and _are_near(one, other):
            kept[i, splits[j]] += 1
            if kept[i, splits[j]] <= most:
                wanted.add((i, j))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "MOST_PARTNERS", most)
        patch.setattr(near_duplicates, "_ROWS", 3)
        patch.setattr(near_duplicates, "_COLUMNS", 4)
        patch.setattr(near_duplicates, "_CHECKED_AT_ONCE", 2)
        found = near_pairs(facts, splits)
    assert len(found) == len(set(found))
    assert set(found) == wanted


def _are_near(one: ImageFacts, other: ImageFacts) -> bool:
    here, there = one.thumbnail[None].astype(np.float32), other.thumbnail[None].astype(np.float32)
    small, other_small = halved(here), halved(there)
    close = correlation(small, other_small)[0] >= MIN_CORRELATION
    return bool(
        close
        and aligned_correlation(small, other_small)[0] >= MIN_ALIGNED_HALF
        and aligned_correlation(here, there)[0] >= MIN_ALIGNED + PER_BIT * (one.hash ^ other.hash).bit_count()
    )


@pytest.mark.slow
def test_the_frames_of_a_film_are_told_in_few_pairs_and_none_is_missed() -> None:
    random = np.random.default_rng(0)
    scene = np.asarray(picture(3, "disc")).astype(np.int16)
    frames = [np.clip(scene + random.integers(-4, 5, scene.shape), 0, 255).astype(np.uint8) for _ in range(120)]
    facts = [image_facts(ArraySource("made", frame)) for frame in frames]
    pairs = near_pairs(facts, ["train"] * 60 + ["test"] * 60)
    assert len(pairs) <= 120 * 2 * MOST_PARTNERS
    leaking = {first for first, second in pairs if first < 60 <= second}
    assert leaking == set(range(60))


@pytest.mark.parametrize("name", PRINTS)
def test_transformed_copies_are_found_and_other_images_are_not(name: str) -> None:
    """Of twenty transformed copies at most one is missed; no two images are taken for one."""
    originals = [picture(seed, "disc") for seed in range(COUNT)]
    facts = [facts_of(image) for image in (*originals, *map(PRINTS[name], originals))]
    pairs = near_pairs(facts)
    assert all(second - first == COUNT for first, second in pairs)
    assert len(pairs) >= 0.95 * COUNT


def test_the_same_pixels_are_a_group_whatever_their_file_and_no_near_pair() -> None:
    image = picture(1, "disc")
    facts = [facts_of(image), None, facts_of(picture(2, "disc")), facts_of(image), facts_of(image)]
    assert exact_groups(facts) == [(0, 3, 4)]
    assert near_pairs(facts) == []


def test_the_same_pixels_in_another_shape_are_another_image() -> None:
    pixels = np.arange(48, dtype=np.uint8)
    wide, tall = (ArraySource("made", pixels.reshape(shape)) for shape in ((4, 4, 3), (2, 8, 3)))
    assert exact_groups([image_facts(wide), image_facts(tall)]) == []


def test_a_mirrored_image_is_another() -> None:
    facts = [
        facts_of(image)
        for seed in range(20)
        for image in (picture(seed, "disc"), ImageOps.mirror(picture(seed, "disc")))
    ]
    assert near_pairs(facts) == []


def test_images_of_a_few_pixels_are_compared_pixel_for_pixel_alone() -> None:
    small = picture(1, "disc", (15, 15))
    assert near_pairs([facts_of(small), facts_of(compressed(small))]) == []
    assert exact_groups([facts_of(small), facts_of(small)]) == [(0, 1)]


def test_images_of_one_colour_are_not_are_near() -> None:
    random = np.random.default_rng(0)
    flat = [Image.fromarray(random.integers(100, 103, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]
    assert near_pairs([facts_of(image) for image in flat]) == []
