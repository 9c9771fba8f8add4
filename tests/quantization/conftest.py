"""Networks that know digits, their float ONNX files, and one whose 8-bit form fails until a layer stays float."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import prepare
from mobilenets.exporters.onnx import MODEL, to_onnx
from mobilenets.models.layers import Normalizer
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.search import CalibrationImages, draw_calibration

if TYPE_CHECKING:
    from onnx import ModelProto

SPOILED = "blocks.6.pointwise.conv"
"""The layer whose input `spoil` gives an outlier."""
SIZE = 16
CLASSES = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Quantizable:
    """A network, its float file, and images to calibrate it with."""

    saved: SavedNetwork
    file: ModelProto
    calibration: CalibrationImages


def quantizable(saved: SavedNetwork, digits: Dataset) -> Quantizable:
    import onnx

    file = onnx.load_from_string(to_onnx(saved.model, saved.preprocessing).payload[MODEL])
    return Quantizable(saved, file, draw_calibration(digits.train, saved.preprocessing, images=64))


def network(name: str) -> SavedNetwork:
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, width_mult=0.25, image_size=SIZE)
    return SavedNetwork(model.eval(), CLASSES, Preprocessing(image_size=SIZE), {})


def shaken(saved: SavedNetwork) -> SavedNetwork:
    """With batch norm statistics unlike those a network starts with, so that its biases are not all zero."""
    generator = torch.Generator().manual_seed(0)
    for module in saved.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2, generator=generator)  # type: ignore[union-attr]
            module.bias.data.normal_(0.0, 0.2, generator=generator)
    return saved


@pytest.fixture(scope="session")
def v1(trained: SavedNetwork, digits: Dataset) -> Quantizable:
    """ReLU and depthwise separable blocks; trained, since in a random one no layer's rounding reaches the logits."""
    return quantizable(trained, digits)


@pytest.fixture(scope="session")
def v3(digits: Dataset) -> Quantizable:
    """h-swish, squeeze-and-excitation, shortcuts; not trained."""
    return quantizable(shaken(network("mobilenet_v3_small")), digits)


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> SavedNetwork:
    """A V1 that knows digits: 135 steps."""
    saved = network("mobilenet_v1")
    images = prepare(digits.train, saved.preprocessing)
    pixels = torch.from_numpy(images.batch(np.arange(len(images))))
    normalizer, labels = Normalizer(saved.preprocessing), torch.from_numpy(images.labels)
    model = saved.model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for chosen in torch.randperm(len(labels), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(normalizer(pixels[chosen])), labels[chosen]).backward()
            optimizer.step()
    model.eval()
    return saved


@pytest.fixture(scope="session")
def run_folder(trained: SavedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network as training leaves it, as far as quantizing needs it."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    folder.mkdir()
    save_network(folder, trained)
    return folder


@pytest.fixture(scope="session")
def spoiled(trained: SavedNetwork) -> SavedNetwork:
    """The V1 with one channel of one activation ten thousand times as large, and the same answers.

    ReLU lets a positive factor through, so a channel's batch norm may be scaled up and the next filters down.
    """
    model = copy.deepcopy(trained.model)
    block = model.blocks[6]
    with torch.no_grad():
        strongest = int(block.depthwise.norm.bias.argmax())  # one that is alive
        for tensor in (block.depthwise.norm.weight, block.depthwise.norm.bias):
            tensor[strongest] *= 1e4
        block.pointwise.conv.weight[:, strongest] /= 1e4
    return SavedNetwork(model, trained.classes, trained.preprocessing, dict(trained.provenance))
