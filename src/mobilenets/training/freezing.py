"""Keeping what given weights have learnt: layers that do not train, and others that train more slowly.

A frozen batch norm is the affine function its weights came with: it normalises by the stored statistics, also in
training, and neither they nor its scale and shift change. Few images, or small batches, give statistics much worse than
those of a million (He et al. 2019, arXiv 1811.08883, freeze them for the same reason).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobilenets.errors import RecipeError
from mobilenets.training.recipe import Freeze, Recipe

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


def settle_freezing(recipe: Recipe, *, has_weights: bool) -> None:
    """Refuse to freeze what nothing has been learnt by.

    Raises:
        RecipeError: layers are to be frozen, and there are no weights.
    """
    if recipe.freeze != "none" and not has_weights:
        raise RecipeError(
            f"recipe field freeze is {recipe.freeze}, but the network starts fresh: there is nothing to keep; "
            "give `weights` where the verb has it, or freeze none"
        )


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
