"""What a training step minimises. The loop takes any `Objective`; a new method is a new objective, not a new loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mobilenets.data.loader import WHOLE, Share


class Objective(Protocol):
    """Runs the network on a batch and returns the loss to minimise and the logits to report."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), logits [B, K]."""


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Cross-entropy against the labels, smoothed as in Szegedy et al. 2016 (arXiv 1512.00567, section 7).

    `class_weights` [K], where there are any, make up for classes of unequal size; see `cross_entropy`.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), logits [B, K]."""
        logits: Tensor = model(images)
        # In float32: bfloat16 has 3 significant digits, too few for a log-sum-exp over many classes.
        return cross_entropy(logits.float(), labels, self.label_smoothing, self.class_weights), logits


def cross_entropy(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over a batch, each class's part of the target times its weight.

    With weights it is still the plain mean over the images. torch would divide by the weights in the batch, and the
    same image would count differently beside others; parts of a batch would not add up to the whole.

    Args:
        logits: [B, K].
        targets: class indices [B], or shares of the classes [B, K].
        label_smoothing: share of the target spread evenly over all classes.
        class_weights: [K], of mean 1 over the training images; None leaves them equal.
    """
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, targets, class_weights.to(logits), label_smoothing=label_smoothing, reduction="sum")
    return total / len(logits)


@dataclass(frozen=True, eq=False)
class Distillation:
    """Cross-entropy against the labels, mixed with agreement with a teacher on the very same images.

    `(1 - weight) CE(labels, student) + weight T² KL(teacher at T || student at T)`, where "at T" are the softmax
    probabilities of the logits over the temperature T. The factor T² keeps the share of the two parts in the gradient
    whatever T is, as a soft target's gradient shrinks with 1 / T².
    Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2.

    Attributes:
        teacher: student's inputs [B, C, H, W] -> logits [B, K] in the student's order of classes; in evaluation mode.
        temperature: T, above 0; larger ones show more of what the teacher thinks of the wrong classes.
        weight: the teacher's share, 0 to 1.
        label_smoothing: of the labels' part only: the teacher's answers are soft already.
        class_weights: [K], of the labels' part only.
    """

    teacher: nn.Module
    temperature: float
    weight: float
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), the student's logits [B, K]."""
        with torch.no_grad():
            wanted: Tensor = self.teacher(images)
        logits: Tensor = model(images)
        hard = cross_entropy(logits.float(), labels, self.label_smoothing, self.class_weights)
        soft = F.kl_div(
            F.log_softmax(logits.float() / self.temperature, dim=1),
            F.log_softmax(wanted.float() / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * soft, logits


def verb_of(objective: Objective) -> str:
    """What a network does under it, for lines of progress: `training` or `distilling`."""
    return "distilling" if isinstance(objective, Distillation) else "training"


# Mixing pairs of images and their labels: MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899).
#
# torchvision mixes every image of a batch with the one before it, all in the same shares. Here a batch is cut into
# pairs
# of neighbours, which are strangers since every epoch has an order of its own, and each pair is mixed by itself, each
# of
# its images with the other, in shares of its own. So the pairs are the same on several processes as on one. Shares
# and
# boxes are those of torchvision's `MixUp` and `CutMix`; a batch is mixed at once, since a call a pair took seven
# times as
# long as theirs.


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
