"""What a recipe's `balance` makes of the training images and of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilenets.data.sampling import BalancedImages, LabelledImages, class_weights
from mobilenets.data.training_images import TrainingImages
from mobilenets.errors import RecipeError
from mobilenets.training.recipe import Recipe


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
