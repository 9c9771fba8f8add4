"""Mixing pairs of images and their labels: MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899).

torchvision mixes every image of a batch with the one before it, all in the same shares. Here a batch is cut into pairs
of neighbours, which are strangers since every epoch has an order of its own, and each pair is mixed by itself, each of
its images with the other, in shares of its own. So the pairs are the same on several processes as on one. Shares and
boxes are those of torchvision's `MixUp` and `CutMix`; a batch is mixed at once, since a call a pair took seven times as
long as theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mobilenets.data.training_images import WHOLE, Share


class _Draws(NamedTuple):
    """What is drawn for every pair of a batch: the share `[P]` that stays of an image where it is blended, 1 where it
    is not, and the box `[P, 4]` (left, top, right, bottom) that is exchanged, empty where none is."""

    kept: NDArray[np.float64]
    box: NDArray[np.int64]


@dataclass(frozen=True)
class Mixing:
    """Mix pairs of a batch.

    Attributes:
        mixup_alpha: parameter of the beta distribution of MixUp's shares; None leaves it out.
        cutmix_alpha: CutMix's, likewise; with both, each pair gets one of the two.
        probability: how likely a pair is mixed at all.
    """

    mixup_alpha: float | None
    cutmix_alpha: float | None
    probability: float = 1.0

    def __bool__(self) -> bool:
        return self.mixup_alpha is not None or self.cutmix_alpha is not None

    def __call__(
        self, images: Tensor, labels: Tensor, classes: int, seed: int, share: Share = WHOLE
    ) -> tuple[Tensor, Tensor]:
        """Images `[B, C, H, W]` float and labels `[B]` -> mixed images and shares of the classes `[B, classes]`.

        The same seed gives the same result, whatever `share` of the whole batch these images are, as long as it is an
        even number; the last image of an odd one has no partner and stays. No global generator is touched.
        """
        count, (height, width) = len(images), images.shape[2:]
        first, pairs = share.index * count // 2, (count * share.count + 1) // 2
        draws = self._draw(pairs, height, width, seed)
        rows = np.arange(count)
        partner = np.minimum(rows ^ 1, count - 1)
        pair = first + rows // 2
        kept, box = draws.kept[pair], draws.box[pair]
        kept[partner == rows], box[partner == rows] = 1.0, 0
        if self.mixup_alpha is None:
            mixed = images.clone()
        else:
            weight = torch.from_numpy(kept).to(images.device, images.dtype)[:, None, None, None]
            mixed = images[torch.from_numpy(partner).to(images.device)].lerp_(images, weight)
        cut = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        for row in np.flatnonzero(cut).tolist():
            left, top, right, bottom = box[row].tolist()
            mixed[row, :, top:bottom, left:right] = images[partner[row], :, top:bottom, left:right]
        own = torch.from_numpy(kept - cut / (height * width)).to(images.device, torch.float32)[:, None]
        targets = F.one_hot(labels, classes).to(torch.float32)
        return mixed, own * targets + (1 - own) * targets[torch.from_numpy(partner).to(labels.device)]

    def _draw(self, pairs: int, height: int, width: int, seed: int) -> _Draws:
        """Draw for all pairs of the whole batch, whether or not they are mixed: what one gets depends on no other."""
        generator = np.random.default_rng(seed)
        mixes = generator.random(pairs) < self.probability
        blends = generator.random(pairs) < 0.5
        if self.mixup_alpha is None or self.cutmix_alpha is None:
            blends[:] = self.mixup_alpha is not None
        kept = np.ones(pairs)
        if self.mixup_alpha is not None:
            kept = np.where(mixes & blends, generator.beta(self.mixup_alpha, self.mixup_alpha, pairs), 1.0)
        box = np.zeros((pairs, 4), np.int64)
        if self.cutmix_alpha is not None:
            half = 0.5 * np.sqrt(1 - generator.beta(self.cutmix_alpha, self.cutmix_alpha, pairs))
            half = np.where(mixes & ~blends, half, 0.0)
            for axis, side in enumerate((width, height)):
                centre, reach = generator.integers(side, size=pairs), (half * side).astype(np.int64)
                box[:, axis] = np.maximum(centre - reach, 0)
                box[:, axis + 2] = np.minimum(centre + reach, side)
        return _Draws(kept, box)


def dominant(targets: Tensor) -> Tensor:
    """The class with the largest share of each image: labels `[B]` as they are, or of shares `[B, K]`."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)
