"""From a batch of images as they are stored to what the network is given at one step: augmented and normalised.

Every random draw is seeded by the recipe's seed and the step's place in the run, and made for the whole batch whatever
part of it this process has. So a step is the same after a resume, and on two processes as on one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobilenets.data.augment import Augment
from mobilenets.data.training_images import WHOLE, Share
from mobilenets.models.normalizer import Normalizer
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.recipe import Recipe
from mobilenets.training.state import derived_seed

ORDER, AUGMENT, DROPOUT, NORM = range(4)
"""What a derived seed is for."""


@dataclass(frozen=True)
class Place:
    """A step of a run: `epoch` and `step` counted from 0, and which part of its batch this process has."""

    epoch: int
    step: int
    share: Share = WHOLE

    def seed(self, recipe: Recipe, purpose: int) -> int:
        """The seed of all draws of one kind at this step."""
        return derived_seed(recipe.seed, self.epoch, self.step, purpose)


class BatchInputs:
    """Makes the network's inputs and targets of a stored batch.

    Args:
        recipe: says how to augment.
        preprocessing: how the images are normalised.
        classes: how many there are.
        device: where the network is.
    """

    def __init__(self, recipe: Recipe, preprocessing: Preprocessing, classes: int, device: torch.device) -> None:
        self.recipe = recipe
        self.classes = classes
        self.device = device
        self.augment = Augment(flip=recipe.flip, crop_padding=recipe.crop_padding)
        self.normalize = Normalizer(preprocessing).to(device)

    def __call__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], place: Place, layout: torch.memory_format
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch as this step does.

        Args:
            images: `[B, H, W, C]`, this process's part.
            labels: `[B]`.
            place: the step.
            layout: of the inputs in memory.

        Returns:
            Inputs `[B, C, H, W]` float32 and targets, class indices `[B]`, on the device.
        """
        generator = torch.Generator().manual_seed(place.seed(self.recipe, AUGMENT))
        augmented = self.augment(torch.from_numpy(images), generator, place.share)
        return self.plain(augmented, layout), torch.from_numpy(labels).to(self.device)

    def plain(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        """Images uint8 `[B, H, W, C]` as they are -> normalised inputs `[B, C, H, W]` on the device."""
        normalized = self.normalize.batch(images.to(self.device, non_blocking=True))
        return normalized.contiguous(memory_format=layout)
