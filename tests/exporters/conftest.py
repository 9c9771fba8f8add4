"""Networks as training leaves them, and real images to ask them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from mobilenets.models.mobilenet_v4_blocks import LayerScale
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

CLASSES = tuple("0123456789")


def shake(model: nn.Module) -> nn.Module:
    """Batch norm statistics, scales and shifts unlike those a network starts with; in place."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.7, 1.4, generator=generator)
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0.0, 0.2, generator=generator)
        elif isinstance(module, LayerScale):
            module.gamma.data.uniform_(0.3, 0.8, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def shaken() -> Callable[..., nn.Module]:
    """A registered network, shaken: `shaken(name, num_classes=10, ...)`; or a module, in place."""

    def make(network: str | nn.Module, **arguments: object) -> nn.Module:
        if isinstance(network, nn.Module):
            return shake(network)
        torch.manual_seed(0)
        defaults = {"num_classes": 10, "width_mult": 0.25, "image_size": 32}
        return shake(create_model(network, **{**defaults, **arguments}))

    return make


@pytest.fixture(scope="session")
def scans() -> Callable[..., NDArray[np.uint8]]:
    """Real images as a network takes them: digits, enlarged, uint8 [B, H, W, C]."""

    def make(preprocessing: Preprocessing, count: int = 16) -> NDArray[np.uint8]:
        size, channels = preprocessing.image_size, preprocessing.channels
        pictures = [
            Image.fromarray((scan * 15.9).astype(np.uint8)).resize((size, size))
            for scan in load_digits().images[:count]
        ]
        return np.stack([np.repeat(np.asarray(picture)[..., None], channels, axis=-1) for picture in pictures])

    return make


@pytest.fixture(scope="session")
def tiny(shaken: Callable[..., nn.Module]) -> nn.Module:
    """A network that exports in a moment, for what does not depend on its size."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)
    return shaken(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, shaken: Callable[..., nn.Module]) -> Path:
    """A run folder of a network for the ten digits."""
    folder = tmp_path_factory.mktemp("run")
    model = shaken("mobilenet_v1", width_mult=0.1, image_size=16)
    save_network(folder, SavedNetwork(model, CLASSES, Preprocessing(image_size=16), {"data": "digits"}))
    return folder
