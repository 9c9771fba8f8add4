"""Random flip and padded crop, the articles' augmentation, for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilenets.data.training_images import WHOLE, Share
from mobilenets.errors import RecipeError


@dataclass(frozen=True)
class Augment:
    """Crop each image at a random place out of itself padded with black, then mirror it with probability one half.

    Each image gets draws of its own, all from one generator that a step can seed. torchvision's `transforms.v2` draws
    once a call, so on a batch all images would move alike, and it takes no generator.

    Attributes:
        flip: mirror left to right half of the time. Not for digits, letters or anything else that has a handedness.
        crop_padding: black pixels added on each side before the crop; 4 is usual at 32x32, 0 leaves the crop out.

    Raises:
        RecipeError: `crop_padding` is negative.
    """

    flip: bool
    crop_padding: int

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise RecipeError(f"crop_padding must be 0 or more pixels, not {self.crop_padding}")

    def __call__(self, images: Tensor, generator: torch.Generator, share: Share = WHOLE) -> Tensor:
        """Augment uint8 images `[B, H, W, C]` into as many of the same size.

        The same generator state gives the same result. Generator and images must be on the same device. The draws are
        those of the whole batch of which these images are a `share`, so that its parts come out as the whole does.
        """
        if not self.flip and not self.crop_padding:
            return images
        batch, height, width, channels = images.shape
        part = slice(share.index * batch, (share.index + 1) * batch)
        top, left, mirrored = (drawn[part] for drawn in self.draw(batch * share.count, generator))
        padding = self.crop_padding
        if not padding:
            return _mirror(images, mirrored)
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        rows = top[:, None] + torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device).expand(batch, width)
        columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - across, across)
        # One selection of pixels does both: the crop chooses rows and columns, the mirror reverses the columns.
        lines = torch.arange(batch, device=images.device)[:, None] * padded.shape[1] + rows
        places = lines[:, :, None] * padded.shape[2] + columns[:, None, :]
        return padded.view(-1, channels).index_select(0, places.flatten()).view(images.shape)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw top and left of the crop within the padded image, int64 `[B]`, and whether to mirror, bool `[B]`."""
        device = generator.device
        places = 2 * self.crop_padding + 1
        top, left = torch.randint(places, (2, batch), generator=generator, device=device)
        if self.flip:
            return top, left, torch.rand(batch, generator=generator, device=device) < 0.5
        return top, left, torch.zeros(batch, dtype=torch.bool, device=device)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror some of the images. Whole images move faster than selected pixels: at 224x224 by a factor of twenty."""
    result = images.clone()
    for place in mirrored.nonzero().flatten().tolist():
        result[place] = images[place].flip(1)
    return result
