"""What a recipe's `balance` makes of the training images and of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilenets.data.sampling import BalancedImages, LabelledImages, class_weights
from mobilenets.data.training_images import TrainingImages
from mobilenets.training.recipe import Recipe


def balanced(
    images: LabelledImages, recipe: Recipe, classes: int, device: torch.device
) -> tuple[TrainingImages, Tensor | None]:
    """The images as they are to be drawn, and the classes' weights in the loss: [K] on the device, or None for none.

    Args:
        images: the training images.
        recipe: says whether and how to balance.
        classes: K.
        device: where the network is trained.
    """
    if recipe.balance == "sampling":
        return BalancedImages(images), None
    if recipe.balance == "weights":
        return images, torch.from_numpy(class_weights(images.labels, classes)).to(device)
    return images, None
