"""The optimizer a recipe asks for."""

from __future__ import annotations

import torch
from torch import nn

from mobilenets.training.freezing import with_rates
from mobilenets.training.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; batch norm and biases in a group of their own.

    One-dimensional parameters are the scales and shifts of batch norm and the biases; decaying them gains nothing and
    pulls the scale of normalised layers (Goyal et al. 2017, arXiv 1706.02677, section 5.3).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": recipe.weight_decay if recipe.decay_norm_and_bias else 0.0,
        },
    ]
    groups = with_rates(groups, model, recipe.backbone_rate)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate, times the group's own `rate` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)
