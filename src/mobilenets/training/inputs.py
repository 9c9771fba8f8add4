"""From a batch of images as they are stored to what the network is given at one step: augmented and normalised.

Every random draw is seeded by the recipe's seed and the step's place in the run, and made for the whole batch whatever
part of it this process has. So a step is the same after a resume, and on two processes as on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mobilenets.data.augment import Augment
from mobilenets.data.crops import RandomCrop
from mobilenets.data.distort import Distort, Rand
from mobilenets.data.training_images import WHOLE, Share
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.mixing import Mixing
from mobilenets.training.recipe import Recipe
from mobilenets.training.schedule import image_size_at
from mobilenets.training.state import derived_seed

ORDER, AUGMENT, DROPOUT, NORM, DISTORT, MIX = range(6)
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
        cropped: whether the images come cut out of larger pictures already, as they were decoded.
    """

    def __init__(
        self,
        recipe: Recipe,
        preprocessing: Preprocessing,
        classes: int,
        device: torch.device,
        *,
        cropped: bool = False,
    ) -> None:
        self.recipe = recipe
        self.classes = classes
        self.device = device
        padding = recipe.crop_padding if recipe.crop == "padded" else 0
        self.augment = Augment(flip=recipe.flip, crop_padding=padding)
        self.distort = distortion(recipe, preprocessing, None if cropped else random_crop(recipe))
        self.mixing = Mixing(recipe.mixup_alpha, recipe.cutmix_alpha, _else(recipe.mix_probability, 1.0))
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
            Inputs `[B, C, S, S]` float32, S being the epoch's image size, and targets, class indices `[B]` or, of mixed
            images, shares of the classes `[B, K]`, on the device.
        """
        # From the stored image on: cut and distorted, moved and mirrored, normalised, made smaller, mixed.
        distorted = self.distort(torch.from_numpy(images), place.seed(self.recipe, DISTORT), place.share)
        generator = torch.Generator().manual_seed(place.seed(self.recipe, AUGMENT))
        inputs = self.plain(self.augment(distorted, generator, place.share), layout)
        size = image_size_at(place.epoch, inputs.shape[-1], self.recipe)
        if size != inputs.shape[-1]:
            inputs = F.interpolate(inputs, (size, size), mode="bilinear", antialias=True)
        targets = torch.from_numpy(labels).to(self.device)
        if self.mixing:
            inputs, targets = self.mixing(inputs, targets, self.classes, place.seed(self.recipe, MIX), place.share)
        return inputs.contiguous(memory_format=layout), targets

    def plain(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        """Images uint8 `[B, H, W, C]` as they are -> normalised inputs `[B, C, H, W]` on the device."""
        normalized = self.normalize.batch(images.to(self.device, non_blocking=True))
        return normalized.contiguous(memory_format=layout)


def random_crop(recipe: Recipe) -> RandomCrop | None:
    """How the recipe cuts parts out of images, or None where it does not."""
    if recipe.crop != "resized":
        return None
    usual = RandomCrop()
    ratio = _else(recipe.crop_ratio, usual.ratio[1])
    return RandomCrop((_else(recipe.crop_scale, usual.scale[0]), 1.0), (1 / ratio, ratio))


def distortion(recipe: Recipe, preprocessing: Preprocessing, crop: RandomCrop | None) -> Distort:
    """What the recipe does to each image by itself, and the crop, where it is still to be done."""
    policy: Rand | Literal["trivial"] | None = None
    if recipe.augment == "trivial":
        policy = "trivial"
    elif recipe.augment == "rand":
        usual = Rand()
        policy = Rand(
            usual.ops if recipe.rand_ops is None else recipe.rand_ops,
            usual.magnitude if recipe.rand_magnitude is None else recipe.rand_magnitude,
            _else(recipe.rand_probability, usual.probability),
        )
    return Distort(
        crop=crop,
        brightness=recipe.jitter_brightness,
        saturation=recipe.jitter_saturation,
        policy=policy,
        erasing=recipe.erasing,
        fill=tuple(255 * mean for mean in preprocessing.mean),
    )


def _else(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
