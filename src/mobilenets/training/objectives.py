"""What a training step minimises. The loop takes any `Objective`; a new method is a new objective, not a new loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
