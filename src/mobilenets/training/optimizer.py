"""The optimizer a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from mobilenets.training.recipe import Freeze, Recipe

# Keeping what given weights have learnt: layers that do not train, and others that train more slowly.
#
# A frozen batch norm is the affine function its weights came with: it normalises by the stored statistics, also in
# training, and neither they nor its scale and shift change. Few images, or small batches, give statistics much worse
# than
# those of a million (He et al. 2019, arXiv 1811.08883, freeze them for the same reason).


_HEAD = ("classifier", "dropout")
"""Children of a network that are not its backbone."""


def freeze(model: nn.Module, what: Freeze) -> None:
    """Let the frozen parameters take no gradient; an optimizer that is built after this does not take them."""
    for layer in _frozen(model, what):
        layer.requires_grad_(False)


def training_mode(model: nn.Module, what: Freeze) -> None:
    """`model.train()`, but frozen layers stay in evaluation mode: their statistics are neither used nor changed."""
    model.train()
    for layer in _frozen(model, what):
        layer.eval()


def _frozen(model: nn.Module, what: Freeze) -> Iterator[nn.Module]:
    if what == "bn":
        yield from (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    elif what == "backbone":
        yield from (layer for name, layer in model.named_children() if name not in _HEAD)


def with_rates(groups: Sequence[dict[str, Any]], model: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Part each of an optimizer's groups into classifier and backbone, the latter with the factor `rate`.

    `set_learning_rate` reads it. With a rate of 1 the groups are left as they are.
    """
    if rate == 1:
        return list(groups)
    classifier = getattr(model, "classifier", None)
    head = {id(parameter) for parameter in classifier.parameters()} if isinstance(classifier, nn.Module) else set()
    parted: list[dict[str, Any]] = []
    for group in groups:
        members: list[Tensor] = group["params"]
        parted.append({**group, "params": [one for one in members if id(one) in head]})
        parted.append({**group, "params": [one for one in members if id(one) not in head], "rate": rate})
    return parted


def folded_norms(model: nn.Module) -> bool:
    """Whether every batch norm is one that changes nothing, its work being done by the filters.

    So are those of TensorFlow Lite files. Trained by the statistics of a batch they would start to normalise, and the
    network would no longer be the one that was loaded.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    return bool(norms) and all(_is_identity(layer) for layer in norms)


def _is_identity(norm: nn.Module) -> bool:
    mean, weight = norm.running_mean, norm.weight
    if not isinstance(mean, Tensor) or not isinstance(weight, Tensor):
        return False
    with torch.no_grad():
        return not bool(mean.any()) and bool((weight == 1).all())


# RMSprop as TensorFlow computes it, which is what the papers' rates and epsilons are for.


class TensorFlowRMSprop(Optimizer):
    """RMSprop with momentum in the form of TensorFlow's `RMSPropOptimizer`.

        square = decay * square + (1 - decay) * gradient²        from 1
        moved  = momentum * moved + rate * gradient / sqrt(square + epsilon)
        weight = weight - moved

    torch's own differs in three ways. It adds epsilon after the root, so with V1's epsilon of 1 a gradient of 1 moves a
    weight by half of the rate instead of 0.7. Its squares begin at 0, so the first steps are up to three times as long.
    And it multiplies by the rate after the momentum, so a rate that falls shortens what was gathered before. Weight
    decay is a part of the gradient here too, as TensorFlow's regularisation losses are.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum: decay of the movement.
        alpha: decay of the average of squared gradients.
        eps: what is added to it.
        weight_decay: share of the weight that is added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        alpha: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["square"] = torch.ones_like(weight)
                self.state[weight]["moved"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        squares = [self.state[weight]["square"] for weight in weights]
        moved = [self.state[weight]["moved"] for weight in weights]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(moved, group["momentum"])
        torch._foreach_addcdiv_(moved, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, moved)


# Learning rate and image size as pure functions of the place in the run: a resumed run needs no scheduler's state.


GAMMA: Final = 0.98
"""What `step` and `exponential` multiply by every epoch where the recipe leaves it open: V2's paper."""
RISE, LOWEST_START, LOWEST_END = 0.3, 1 / 25, 1 / 25e4
"""One-cycle: the share of the run it rises for, and the shares of the peak it starts and ends at. torch's defaults."""
FULL_SIZE_AT: Final = 0.8
SIZE_STEP: Final = 8
"""Image sizes are multiples of it, so that the networks' strides divide them."""


def learning_rate_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of `step` (counted from 0 over the whole run).

    `onecycle` is Smith and Topin's (arXiv 1708.07120) in torch's two-phase form, without a cycle of momentum. All
    others begin with a linear warm-up: then cosine annealing without restarts (Loshchilov & Hutter, arXiv 1608.03983,
    eq. 5 with minimum `final_rate`), constant, or decay by a factor every so many epochs, at once (`step`, TensorFlow's
    staircase) or smoothly (`exponential`).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total // 2)
    if recipe.schedule == "onecycle":
        return recipe.learning_rate * _one_cycle(step, total, warmup / total if warmup else RISE)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule in ("step", "exponential"):
        return recipe.learning_rate * _decayed((step - warmup) / steps_per_epoch, recipe)
    progress = (step - warmup) / max(1, total - warmup)
    final = recipe.final_rate or 0.0
    return recipe.learning_rate * _cosine(1.0, final, progress)


def extension(recipe: Recipe, had: int, step: int, steps_per_epoch: int) -> str:
    """Say what becomes of the schedule of a run that is given more epochs: that of a run which had them all along.

    The rate is a function of the place in the run, so it goes on where a run of the new length would be, whatever the
    old one had come down to: a restart without a warm-up, below the peak (compare Loshchilov & Hutter, arXiv
    1608.03983, section 3, who start again at the peak).

    Args:
        recipe: with the new epochs.
        had: the epochs of before.
        step: the next one, counted from 0 over the whole run.
        steps_per_epoch: of an epoch.
    """
    before, after = (
        learning_rate_at(max(0, place), steps_per_epoch, which)
        for place, which in ((step - 1, replace(recipe, epochs=had)), (step, recipe))
    )
    if recipe.schedule == "constant":
        said = f"the learning rate stays {after:.2g}"
    elif recipe.schedule in ("step", "exponential"):
        said = f"the learning rate goes on falling, from {after:.2g}"
    else:
        said = (
            f"the {recipe.schedule} schedule is computed anew over all {recipe.epochs}; the learning rate goes on at "
            f"{after:.2g}, where it had come to {before:.2g}"
        )
    return said + ("; image sizes likewise" if recipe.progressive_start is not None else "")


def image_size_at(epoch: int, full: int, recipe: Recipe) -> int:
    """Side of the training images in pixels in `epoch` (counted from 0).

    It grows evenly from `progressive_start` of the full side, in multiples of 8 pixels, and is full in the last epochs,
    so that batch norm and filters settle at the size that is scored. Source: Howard's progressive resizing as in
    Touvron et al. 2019 (arXiv 1906.06423) and Tan and Le 2021 (arXiv 2104.00298, section 4).
    """
    if recipe.progressive_start is None:
        return full
    until = recipe.epochs * (FULL_SIZE_AT if recipe.progressive_end is None else recipe.progressive_end)
    share = recipe.progressive_start + (1 - recipe.progressive_start) * min(1.0, epoch / max(1.0, math.floor(until)))
    if share >= 1 or epoch == recipe.epochs - 1:
        return full
    return min(full, max(SIZE_STEP, round(full * share / SIZE_STEP) * SIZE_STEP))


def _one_cycle(step: int, total: int, rise: float) -> float:
    top = rise * total - 1
    if step < top:
        return _cosine(LOWEST_START, 1.0, step / top)
    return _cosine(1.0, LOWEST_END, (step - top) / max(1.0, total - 1 - top))


def _decayed(epochs: float, recipe: Recipe) -> float:
    periods = epochs / (1.0 if recipe.decay_epochs is None else recipe.decay_epochs)
    if recipe.schedule == "step":
        periods = math.floor(periods + 1e-9)  # an epoch that is a sum of steps may be a hair short of a whole
    decay: float = (GAMMA if recipe.gamma is None else recipe.gamma) ** periods
    return decay


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


MOMENTUM = 0.9
ADAMW_BETA2, RMSPROP_ALPHA = 0.999, 0.9
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
        alpha, epsilon = _else(recipe.alpha, RMSPROP_ALPHA), _else(recipe.epsilon, RMSPROP_EPSILON)
        return TensorFlowRMSprop(groups, lr=rate, momentum=momentum, alpha=alpha, eps=epsilon)
    betas = (momentum, _else(recipe.alpha, ADAMW_BETA2))
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
