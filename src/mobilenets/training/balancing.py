"""What a recipe's `balance` makes of the training images and of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobilenets.data.loader import WHOLE, Share, TrainingBatch, TrainingImages, epoch_batches
from mobilenets.errors import RecipeError
from mobilenets.training.recipe import Recipe

# Classes of unequal size: images drawn so that every class comes equally often, or weights that make up for it.


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


def balanced(
    images: TrainingImages, recipe: Recipe, classes: int, device: torch.device
) -> tuple[TrainingImages, Tensor | None]:
    """The images as they are to be drawn, and the classes' weights in the loss: [K] on the device, or None for none.

    Args:
        images: the training images.
        recipe: says whether and how to balance.
        classes: K.
        device: where the network is trained.

    Raises:
        RecipeError: they are to be balanced, but stream from shards.
    """
    if recipe.balance == "none":
        return images, None
    if not isinstance(images, LabelledImages):
        raise RecipeError("balance needs the class of every image beforehand; shards are streamed: leave it out")
    if recipe.balance == "sampling":
        return BalancedImages(images), None
    return images, torch.from_numpy(class_weights(images.labels, classes)).to(device)
