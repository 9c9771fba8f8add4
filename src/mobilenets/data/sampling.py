"""Seeded draws of images class by class: shares held out, folds, halves, equal samples, and balanced epochs.

Every draw depends on the labels and the seed alone. scikit-learn's own are not used, since they refuse classes with
fewer images than parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.loader import WHOLE, Share, TrainingBatch, TrainingImages, epoch_batches


def hold_out(
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


ALONE: Final = -1


def fold_of(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Which fold each image is held out in, `[N]`: every class spread evenly, a class's only image in none (`ALONE`).

    Unlike scikit-learn's, it takes classes with fewer images than folds.
    """
    random = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        # Another first fold for each class, or small classes would all be held out in the same.
        fold[members] = (np.arange(len(members)) + random.integers(folds)) % folds if len(members) > 1 else ALONE
    return fold


def halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of two halves, ascending, each with half of every class as nearly as can be.

    `data.splits` would refuse a class of one image, of which some test sets have many.
    """
    shuffled = np.random.default_rng(seed).random(len(labels))
    by_class = np.lexsort((shuffled, labels))
    return np.sort(by_class[::2]), np.sort(by_class[1::2])


def stratified_sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of `count` images, ascending, as many of each class as of any other while it has some left.

    Equal shares and not proportional ones: a rare class stretches ranges too.

    Args:
        labels: class index of each image, `[N]`.
        count: how many; all where there are no more.
        seed: the same seed draws the same images.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Each image's place within its class: all first ones are drawn before any second one.
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(first, counts)
    tie = np.random.default_rng((seed, 1)).random(len(labels))
    drawn = by_class[np.lexsort((tie, rank))][:count]
    return np.sort(drawn).astype(np.int64)


@runtime_checkable
class LabelledImages(TrainingImages, Protocol):
    """Images to train on whose classes are known beforehand, and that can be had in any order."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices `[N]`."""

    def stream(self, index_batches: Iterator[NDArray[np.int64]]) -> Iterator[TrainingBatch]:
        """See `PreparedImages.stream`."""


class BalancedImages:
    """`TrainingImages` whose epochs hold every class equally often; images come from another's."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images
        self.preprocessing = images.preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, seed: int, batch_size: int, *, first: int = 0, share: Share = WHOLE) -> Iterator[TrainingBatch]:
        """See `TrainingImages`: as many images as there are, each class its equal part, some more than once."""
        order = balanced_order(self.images.labels, seed)
        return self.images.stream(epoch_batches(order, batch_size, first=first, share=share))


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of an epoch's images, `[N]`: each class present has N / K of them, or one more.

    A large class shows a part of its images, another part each epoch; a small one shows all of them before any comes
    again. Drawing with weights, the usual way, would leave both to chance.

    Args:
        labels: class indices `[N]`.
        seed: the same seed gives the same order.
    """
    random = np.random.default_rng(seed)
    present = np.unique(labels)
    quotas = np.full(len(present), len(labels) // len(present))
    quotas[random.permutation(len(present))[: len(labels) % len(present)]] += 1
    drawn = [_repeated(np.flatnonzero(labels == one), int(n), random) for one, n in zip(present, quotas, strict=True)]
    order: NDArray[np.int64] = random.permutation(np.concatenate(drawn)).astype(np.int64)
    return order


def _repeated(members: NDArray[np.intp], count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """`count` of the members in random order, none a time more than another."""
    rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count] if rounds else members[:0]


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """A weight for each class, `[K]`, inverse to its number of images: N / (K n).

    Over the images the weights have mean 1, so that the learning rate means what it did. A class without images
    gets 0: nothing is to be weighed.

    Args:
        labels: class indices `[N]`.
        classes: K.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, dtype=np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
