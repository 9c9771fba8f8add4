"""Exact duplicates and near-duplicates among images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.checkup.examination import FLAT, THUMBNAIL_SIDE, ImageFacts
from mobilenets.progress import Count

# Image alignment: whether two small images show the same thing, though one was cropped, moved or brightened a little.
#
# To first order, a slight change of the frame adds some of an image's own slopes to it: those along x and y for a
# shift, those times the position for a stretch. So one image is fitted by the other and its slopes, in one small system
# of equations for each pair, and how well it fits is the result (one step of B. Lucas, T. Kanade, "An iterative image
# registration technique", 1981).


ImageBatch = NDArray[np.float32]
"""Small images, `[N, S, S, C]`."""

MOST_MOVED: Final = 0.09
"""Share of a side by which an edge may move: cuts of 5 % at one side, and some more."""
_STEADY: Final = 1e-3
_TINY: Final = 1e-6


def correlation(one: ImageBatch, other: ImageBatch) -> NDArray[np.float32]:
    """Correlation of images as they are, -1 to 1, `[N]`."""
    return _cosine(_levelled(one), _levelled(other))


def aligned_correlation(one: ImageBatch, other: ImageBatch) -> NDArray[np.float32]:
    """Correlation of images once one is moved and stretched a little to fit the other, -1 to 1, `[N]`.

    The edge of a pixel is left out, as it has no slope. The better of both directions counts.
    """
    return np.maximum(_fit(one, other), _fit(other, one))


def halved(images: ImageBatch) -> ImageBatch:
    """ImageBatch at half the side, `[N, S/2, S/2, C]`."""
    count, side, _, channels = images.shape
    mean: ImageBatch = images.reshape(count, side // 2, 2, side // 2, 2, channels).mean(axis=(2, 4))
    return mean


def _fit(moved: ImageBatch, fixed: ImageBatch) -> NDArray[np.float32]:
    count, side, _, channels = moved.shape
    inner = (side - 2) ** 2 * channels
    place = ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2))[1:-1]
    across, down = place[None, None, :, None], place[None, :, None, None]
    x_slope = (moved[:, 1:-1, 2:] - moved[:, 1:-1, :-2]) / 2
    y_slope = (moved[:, 2:, 1:-1] - moved[:, :-2, 1:-1]) / 2
    parts = np.stack([moved[:, 1:-1, 1:-1], x_slope, y_slope, x_slope * across, y_slope * down], axis=1)
    regressors = _levelled(parts.reshape(5 * count, side - 2, side - 2, channels)).reshape(count, 5, inner)
    wanted = _levelled(fixed[:, 1:-1, 1:-1])
    products = regressors @ regressors.transpose(0, 2, 1)
    # A little of the image's own size on the diagonal: one without slopes, or of one colour, still has an answer.
    products += np.eye(5, dtype=np.float32) * (_STEADY * products[:, :1, :1] + _TINY)
    weights = np.linalg.solve(products, regressors @ wanted[:, :, None])[:, :, 0]
    gain = np.maximum(weights[:, :1], 0)  # a negative is another image
    reach = MOST_MOVED * side * gain
    weights = np.concatenate([gain, np.clip(weights[:, 1:], -reach, reach)], axis=1)
    return _cosine((weights[:, None] @ regressors)[:, 0], wanted)


def _levelled(images: ImageBatch) -> NDArray[np.float32]:
    """Images less the mean of each channel, `[N, S * S * C]`: two blue skies are not the same image."""
    less: ImageBatch = images - images.mean(axis=(1, 2), keepdims=True)
    return less.reshape(len(images), int(np.prod(images.shape[1:])))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine: NDArray[np.float32] = (one * other).sum(axis=1) / np.maximum(lengths, _TINY)
    return cosine


NEAR_BITS: Final = 16
"""Bits in which the hashes of near-duplicates may differ: a crop of 5 % of a small one costs so many."""
MIN_CORRELATION: Final = 0.6
"""Correlation of their 8x8 images as they are, below which two are not compared further."""
MIN_ALIGNED_HALF: Final = 0.93
"""Correlation of their 8x8 images, once aligned, below which two are not compared further."""
MIN_ALIGNED, PER_BIT = 0.912, 0.002
"""Correlation of their 16x16 images, once aligned, from which two are near-duplicates, and how much more for each bit
in which their hashes differ. Of CIFAR-10's images nearly all pairs above are the same image. With less, other ships on
other seas come in; with as much for every number of bits, crops are lost.
"""
MOST_PARTNERS: Final = 8
"""Pairs an image is first in, for each split: frames of a film are near-duplicates, whose pairs would fill memory."""
_ROWS, _COLUMNS = 256, 4096  # a tile of a million pairs fits a processor's cache
_CHECKED_AT_ONCE: Final = 2048

Pair = tuple[int, int]
"""Places of two images, the smaller first."""


def exact_groups(facts: Sequence[ImageFacts | None]) -> list[tuple[int, ...]]:
    """Places of images that are the same image, pixel for pixel, in groups of two and more."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, one in enumerate(facts):
        if one is not None:
            groups[one.digest].append(place)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near_pairs(
    facts: Sequence[ImageFacts | None], splits: Sequence[str] | None = None, progress: Count | None = None
) -> list[Pair]:
    """Pairs of near-duplicates: images that look the same and differ in some pixels.

    Their hashes differ in at most `NEAR_BITS`, and small images of them are nearly the same once aligned. Images of
    one colour and those of less than 16 pixels a side are left out: they have too little to tell them apart. Every
    image that has partners later in the data is in at least one pair with each split that has some, and in
    `MOST_PARTNERS` at most.

    Args:
        facts: of each image; None for one that can't be read.
        splits: of each image; None if all are of one.
        progress: told the pairs compared, and how many there are.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(facts):
        if one is not None and one.contrast >= FLAT and min(one.header.width, one.header.height) >= THUMBNAIL_SIDE:
            groups["" if splits is None else splits[place]].append(place)
    parts = [_fingerprints(facts, places) for places in groups.values()]
    jobs = list(combinations_with_replacement(parts, 2))
    total = sum(len(here.places) * len(there.places) for here, there in jobs)
    pairs: list[Pair] = []
    done = 0
    for here, there in jobs:
        for first, second in _near(here, there, None if progress is None else _after(progress, done, total)):
            pairs += zip(first.tolist(), second.tolist(), strict=True)
        done += len(here.places) * len(there.places)
    return sorted((min(pair), max(pair)) for pair in pairs)


@dataclass(frozen=True, eq=False)
class _Fingerprints:
    """What is compared of the images of one split: their places, hashes, small images and digests."""

    places: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    digests: NDArray[np.uint64]


def _fingerprints(facts: Sequence[ImageFacts | None], places: Sequence[int]) -> _Fingerprints:
    known = [one for place in places if (one := facts[place]) is not None]
    return _Fingerprints(
        np.array(places, np.int64),
        np.array([one.hash for one in known], np.uint64),
        np.array([one.thumbnail for one in known], np.uint8),
        np.frombuffer(b"".join(one.digest for one in known), np.uint64).reshape(len(known), -1),
    )


def _near(
    one: _Fingerprints, other: _Fingerprints, progress: Count | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places of near-duplicates, some at a time."""
    kept = np.zeros(len(one.places), np.int64)
    done = np.zeros(len(one.places), np.bool_)
    for first, second in close_hashes(one.hashes, None if one is other else other.hashes, NEAR_BITS, done, progress):
        parts = [slice(at, at + _CHECKED_AT_ONCE) for at in range(0, len(first), _CHECKED_AT_ONCE)]
        near = np.concatenate([_are_near(one, other, first[part], second[part]) for part in parts])
        first, second = first[near], second[near]
        # Rows come in order: an image's pairs stand together, and its earliest partners are kept.
        number = np.arange(len(first)) - np.searchsorted(first, first) + kept[first]
        kept_now = number < MOST_PARTNERS
        first, second = first[kept_now], second[kept_now]
        kept += np.bincount(first, minlength=len(kept))
        done[kept >= MOST_PARTNERS] = True
        yield one.places[first], other.places[second]


def _are_near(
    one: _Fingerprints, other: _Fingerprints, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether pairs with close hashes are near-duplicates, by their small images, and not equal."""
    here, there = (part.thumbnails[places].astype(np.float32) for part, places in ((one, first), (other, second)))
    half, other_half = halved(here), halved(there)
    near: NDArray[np.bool_] = (one.digests[first] != other.digests[second]).any(axis=1)
    near &= correlation(half, other_half) >= MIN_CORRELATION
    # Each comparison costs some times the one before, and is made of those that passed it.
    left = np.flatnonzero(near)
    near[left] = aligned_correlation(half[left], other_half[left]) >= MIN_ALIGNED_HALF
    left = np.flatnonzero(near)
    bits = np.bitwise_count(one.hashes[first[left]] ^ other.hashes[second[left]])
    near[left] = aligned_correlation(here[left], there[left]) >= MIN_ALIGNED + PER_BIT * bits
    return near


def close_hashes(
    hashes: NDArray[np.uint64],
    others: NDArray[np.uint64] | None,
    bits: int,
    done: NDArray[np.bool_],
    progress: Count | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield places of pairs of hashes that differ in at most `bits`, tile by tile, each pair once, rows in order.

    All are compared with all: 60,000 take some seconds, and no structure has to be right.

    Args:
        hashes: the first of each pair, `[N]`.
        others: the second of each pair, `[M]`; None pairs `hashes` among themselves, each with later ones.
        bits: how many.
        done: `[N]`, hashes that no more is wanted of; the caller may mark some as it goes.
        progress: told the pairs compared, and how many there are.
    """
    columns = hashes if others is None else others
    for top in range(0, len(hashes), _ROWS):
        for left in range(top if others is None else 0, len(columns), _COLUMNS):
            rows = top + np.flatnonzero(~done[top : top + _ROWS])
            differing = np.bitwise_count(hashes[rows, None] ^ columns[None, left : left + _COLUMNS])
            row, column = np.nonzero(differing <= bits)
            first, second = rows[row], column + left
            if others is None:
                later = second > first
                first, second = first[later], second[later]
            if len(first):
                yield first, second
        if progress is not None:
            progress(min(top + _ROWS, len(hashes)) * len(columns), len(hashes) * len(columns))


def _after(progress: Count, before: int, total: int) -> Count:
    return lambda done, _: progress(before + done, total)
