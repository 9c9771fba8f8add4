"""What training minimises and how: the objective, the optimizer a recipe asks for, frozen layers, and averages.

The loop takes any `Objective`; a new method is a new objective, not a new loop.

A frozen batch norm is the affine function its weights came with: it normalises by the stored statistics, also in
training, and neither they nor its scale and shift change. Few images, or small batches, give statistics much worse than
those of a million (He et al. 2019, arXiv 1811.08883, freeze them for the same reason).

Batch norm's running statistics start at mean 0 and variance 1 and move by `momentum` a step: 0.1 in MobileNetV1 and V2,
0.01 in V3. After 100 steps at 0.01 they still hold 37 % of their initial values, and a network that scores 86 % on the
batches it is trained on may score 10 % once it is evaluated. So where training was too short for these to fade, they
are measured anew. So they are where the result is an average of the weights: the averaged statistics are those of each
of the averaged weights, not what the average makes of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, update_bn

from mobilenets.training.recipe import Freeze, Recipe


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


def verb_of(objective: Objective) -> str:
    """What a network does under it, for lines of progress: `training`, or the objective's own `verb`."""
    verb: str = getattr(objective, "verb", "training")
    return verb


def dominant(targets: Tensor) -> Tensor:
    """The class with the largest share of each image: labels `[B]` as they are, or of shares `[B, K]`."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)


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


Average = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of all weights and batch-norm statistics of `model`.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates, TensorFlow's ExponentialMovingAverage rule
    with which the papers' weights were averaged: without it a short run would end near its random start.
    """
    return AveragedModel(model, multi_avg_fn=_warmed_up(decay), use_buffers=True)


def _warmed_up(decay: float) -> Average:
    @torch.no_grad()
    def average(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for mean, value in zip(averages, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), weight)
            else:  # batch norm counts its batches in an integer
                mean.copy_(value)

    return average


MAX_INITIAL_SHARE = 1e-3  # the share of the made-up start that may be left in the statistics


def initial_share(model: nn.Module, steps: int) -> float:
    """How much of the initial statistics is left after `steps` training steps, 0 to 1: (1 - momentum) ** steps.

    Frozen layers count as 0: theirs are the weights' own.
    """
    norms = (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    momenta = [layer.momentum for layer in norms if layer.weight is None or layer.weight.requires_grad]
    return max((1 - momentum) ** steps if momentum is not None else 0.0 for momentum in momenta) if momenta else 0.0


def why_reestimate(model: nn.Module, steps: int, *, averaged: bool) -> str | None:
    """In words why the statistics after `steps` training steps must be measured anew, or None if they need not.

    `averaged` says whether the weights are an average over steps.
    """
    left = initial_share(model, steps)
    if left > MAX_INITIAL_SHARE:
        return f"after so few steps its running averages still hold {left:.0%} of their initial values"
    if averaged and any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return "its statistics were not those of the averaged weights"
    return None


def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by their plain average over `batches` ([B, C, H, W], on the model's device).

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2, by torch's `update_bn`. The model's mode is kept.
    """
    update_bn(batches, model)
