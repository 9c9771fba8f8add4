"""What a training step minimises. The loop takes any `Objective`; a new method is a new objective, not a new loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F


class Objective(Protocol):
    """Runs the network on a batch and returns the loss to minimise and the logits to report."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), logits [B, K]."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy against the labels, smoothed as in Szegedy et al. 2016 (arXiv 1512.00567, section 7)."""

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), logits [B, K]."""
        logits: Tensor = model(images)
        # In float32: bfloat16 has 3 significant digits, too few for a log-sum-exp over many classes.
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing), logits
