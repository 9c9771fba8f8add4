"""The optimizer a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mobilenets.training.freezing import with_rates
from mobilenets.training.recipe import Recipe
from mobilenets.training.rmsprop import TensorFlowRMSprop

MOMENTUM = 0.9
ADAMW_SQUARE_DECAY, RMSPROP_SQUARE_DECAY = 0.999, 0.9
ADAMW_EPSILON, RMSPROP_EPSILON = 1e-8, 1e-3


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, SGD with Nesterov momentum or RMSprop; depthwise filters, batch norm and biases in groups of their own.

    One-dimensional parameters are the scales and shifts of batch norm and the biases; decaying them gains nothing and
    pulls the scale of normalised layers (Goyal et al. 2017, arXiv 1706.02677, section 5.3). Depthwise filters have so
    few parameters that V1's paper found it important to decay them little, if at all (arXiv 1704.04861, section 3.2).
    """
    spared = set() if recipe.decay_depthwise else {id(weight) for weight in depthwise_filters(model)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in parameters if parameter.ndim > 1]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in filters if id(p) not in spared], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": recipe.weight_decay if recipe.decay_norm_and_bias else 0.0,
        },
    ]
    if spared:
        groups.append({"params": [p for p in filters if id(p) in spared], "weight_decay": 0.0})
    groups = with_rates(groups, model, recipe.backbone_rate)
    rate = recipe.learning_rate
    momentum = _else(recipe.momentum, MOMENTUM)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    if recipe.optimizer == "rmsprop":
        square_decay, epsilon = _else(recipe.square_decay, RMSPROP_SQUARE_DECAY), _else(recipe.epsilon, RMSPROP_EPSILON)
        return TensorFlowRMSprop(groups, lr=rate, momentum=momentum, alpha=square_decay, eps=epsilon)
    betas = (momentum, _else(recipe.square_decay, ADAMW_SQUARE_DECAY))
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=_else(recipe.epsilon, ADAMW_EPSILON))


def depthwise_filters(model: nn.Module) -> Iterator[Tensor]:
    """The weights of convolutions with one filter, or several, for each single channel."""
    for layer in model.modules():
        if isinstance(layer, _ConvNd) and layer.groups == layer.in_channels > 1:
            yield layer.weight


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate, times the group's own `rate` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)


def _else(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
