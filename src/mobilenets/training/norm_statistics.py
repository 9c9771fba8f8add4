"""Batch norm's running statistics after a short training.

They start at mean 0 and variance 1 and move by `momentum` a step: 0.1 in MobileNetV1 and V2, 0.01 in V3. After 100
steps at 0.01 they are still 37 % made up, and a network that scores 86 % on the batches it is trained on may score 10 %
once it is evaluated. So where training was too short for the start to be forgotten, they are measured anew.

So they are where the result is an average of the weights. The statistics were averaged too, but they are those of each
of the weights that were averaged, and not what the average makes of the images.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

FORGOTTEN = 1e-3  # the share of the made-up start that may be left in the statistics


def share_of_start(model: nn.Module, steps: int) -> float:
    """How much of the initial statistics is left after `steps` training steps, 0 to 1: (1 - momentum) ** steps.

    Frozen layers count as settled: theirs are the weights' own.
    """
    norms = (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    momenta = [layer.momentum for layer in norms if layer.weight is None or layer.weight.requires_grad]
    return max((1 - momentum) ** steps if momentum is not None else 0.0 for momentum in momenta) if momenta else 0.0


def why_reestimate(model: nn.Module, steps: int, *, averaged: bool) -> str | None:
    """In words why the statistics after `steps` training steps must be measured anew, or None if they need not.

    `averaged` says whether the weights are an average over steps.
    """
    left = share_of_start(model, steps)
    if left > FORGOTTEN:
        return f"{left:.0%} of its start was left after so few steps"
    if averaged and any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return "its statistics were not those of the averaged weights"
    return None


def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by their plain average over `batches` ([B, C, H, W], on the model's device).

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2, by torch's `update_bn`. The model's mode is kept.
    """
    update_bn(batches, model)
