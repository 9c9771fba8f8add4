"""Refusing, before training begins, what batch norm can't be trained on: one image at a time where it needs two.

A single value is its own mean: normalised it is 0 whatever the image shows, and no gradient passes. MobileNetV4
normalises after its pool, where an image leaves one value a channel, so it never learns from single images. The other
networks do, unless the images are so small that their last map is 1x1.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobilenets.data.training_images import TrainingImages
from mobilenets.errors import RecipeError
from mobilenets.training.freezing import training_mode
from mobilenets.training.recipe import Recipe
from mobilenets.training.schedule import image_size_at


def check_single_images(model: nn.Module, images: TrainingImages, recipe: Recipe, *, processes: int = 1) -> None:
    """Refuse a training that would give a batch norm one value a channel.

    Args:
        model: the network; its weights stay as they are, its mode becomes that of training.
        images: what it is to be trained on.
        recipe: how.
        processes: how many share each batch.

    Raises:
        RecipeError: it would; the message names the layer and what to do.
    """
    share = min(recipe.batch_size, len(images) // processes * processes) // processes
    if share > 1 or (recipe.sync_norm and processes > 1):
        return
    training_mode(model, recipe.freeze)
    full = images.preprocessing.image_size
    side = min(image_size_at(epoch, full, recipe) for epoch in range(recipe.epochs))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    layer = _with_single_values(model, torch.zeros(1, images.preprocessing.channels, side, side, device=device))
    if layer is not None:
        raise RecipeError(
            f"with 1 image at a time of {side}x{side} pixels, batch norm {layer} has a single value a channel and "
            f"nothing to normalise over; {_advice(len(images), processes)}"
        )


def _with_single_values(model: nn.Module, image: Tensor) -> str | None:
    """The first trained batch norm that one image [1, C, H, W] gives a single value a channel."""
    found: list[str] = []
    trial = copy.deepcopy(model).eval()

    def watch(name: str, values: Tensor) -> None:
        if values.numel() == values.shape[1]:
            found.append(name)

    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            trial.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: watch(name, given[0]))
    with torch.no_grad():
        trial(image)
    return found[0] if found else None


def _advice(images: int, processes: int) -> str:
    if images < 2 * processes:
        return "give at least 2 training images" + (" a process" if processes > 1 else "")
    synced = ", or `sync_norm=True`, which normalises over all processes" if processes > 1 else ""
    return f"try `batch_size={2 * processes}`{synced}"
