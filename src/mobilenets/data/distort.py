"""Augmentation that changes each image by itself, by torchvision's transforms: crop, colours, policy, erasing.

torchvision's transforms draw from torch's global generator, once a call. So each image is a call, with the generator
seeded by the image's place before it and put back as it was after the batch.

Cost, one core, 32 pixels: TrivialAugment takes about 0.1 ms an image, so it alone could feed 8,000 images a second; a
step of training on the same core takes several milliseconds an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mobilenets.data.crops import RandomCrop, draw
from mobilenets.data.training_images import WHOLE, Share

RAND_LEVELS = 11
"""RandAugment's magnitudes go from 0 to 10, as in its paper (arXiv 1909.13719) and its authors' code."""


@dataclass(frozen=True)
class Rand:
    """RandAugment: `ops` changes in a row, each of `magnitude` of 10 and made with `probability`."""

    ops: int = 2
    magnitude: int = 9
    probability: float = 1.0


@dataclass(frozen=True)
class Distort:
    """Change each image of a batch by draws of its own; nothing is done by default.

    Attributes:
        crop: cut a part and resize it to the image's size.
        brightness: change it by up to this share.
        saturation: change it by up to this share.
        policy: TrivialAugment (arXiv 2103.10158) by its name, or RandAugment.
        erasing: how likely a rectangle is erased (arXiv 1708.04896).
        fill: the erased rectangle's colour, 0 to 255 a channel; the images' mean is 0 to the network.
    """

    crop: RandomCrop | None = None
    brightness: float = 0.0
    saturation: float = 0.0
    policy: Literal["trivial"] | Rand | None = None
    erasing: float = 0.0
    fill: Sequence[float] = (0.0,)

    def transforms(self) -> list[nn.Module]:
        """What is done to an image `[C, H, W]` uint8 after the crop, in order."""
        made: list[nn.Module] = []
        if self.brightness or self.saturation:
            made.append(v2.ColorJitter(brightness=self.brightness, saturation=self.saturation))
        if isinstance(self.policy, Rand):
            change = v2.RandAugment(num_ops=1, magnitude=self.policy.magnitude, num_magnitude_bins=RAND_LEVELS)
            made += [v2.RandomApply([change], p=self.policy.probability)] * self.policy.ops
        elif self.policy == "trivial":
            made.append(v2.TrivialAugmentWide())
        if self.erasing:
            made.append(v2.RandomErasing(p=self.erasing, value=list(self.fill)))
        return made

    def __call__(self, images: Tensor, seed: int, share: Share = WHOLE) -> Tensor:
        """Change uint8 images `[B, H, W, C]` on the CPU into as many of the same size.

        The same seed gives the same result, whatever `share` of the whole batch these images are. torch's global
        generator is left as it was.
        """
        transforms = self.transforms()
        if not transforms and self.crop is None:
            return images
        batch, height, width, _ = images.shape
        rows = share.rows(batch * share.count)
        draws = draw(seed, 0, batch * share.count)
        seeds = torch.randint(2**62, (batch * share.count,), generator=torch.Generator().manual_seed(seed))
        changed = []
        with torch.random.fork_rng(devices=[]):
            for index, row in enumerate(rows):
                image = images[index].permute(2, 0, 1).contiguous()
                if self.crop is not None:
                    left, top, right, bottom = self.crop.box(width, height, draws[row])
                    sides = bottom - top, right - left
                    image = functional.resized_crop(image, top, left, *sides, size=[height, width], antialias=True)
                torch.default_generator.manual_seed(int(seeds[row]))
                for transform in transforms:
                    image = transform(image)
                changed.append(image)
        return torch.stack(changed).permute(0, 2, 3, 1).contiguous()
