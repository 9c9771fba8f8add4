"""Mixing pairs of images and their labels: MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899), by torchvision.

torchvision mixes every image of a batch with the one before it, all in the same shares. Here a batch is cut into pairs
of neighbours, which are strangers since every epoch has an order of its own, and each pair is mixed by itself, each of
its images with the other, in shares of its own. So the pairs are the same on several processes as on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from mobilenets.data.training_images import WHOLE, Share


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
        even number; the last image of an odd one has no partner and stays. torch's global generator is left as it was.
        """
        methods: list[Any] = []
        if self.mixup_alpha is not None:
            methods.append(v2.MixUp(alpha=self.mixup_alpha, num_classes=classes))
        if self.cutmix_alpha is not None:
            methods.append(v2.CutMix(alpha=self.cutmix_alpha, num_classes=classes))
        mixed, targets = images.clone(), F.one_hot(labels, classes).to(torch.float32)
        first = share.index * len(images) // 2
        pairs = (len(images) * share.count + 1) // 2
        seeds = torch.randint(2**62, (pairs,), generator=torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            for start in range(0, len(images) - 1, 2):
                torch.default_generator.manual_seed(int(seeds[first + start // 2]))
                if float(torch.rand(())) >= self.probability:
                    continue
                method = methods[int(torch.randint(len(methods), ()))]
                pair = slice(start, start + 2)
                mixed[pair], targets[pair] = method(images[pair], labels[pair])
        return mixed, targets


def dominant(targets: Tensor) -> Tensor:
    """The class with the largest share of each image: labels `[B]` as they are, or of shares `[B, K]`."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)
