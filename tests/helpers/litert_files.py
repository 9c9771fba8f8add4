"""LiteRT files run and read for tests, and networks whose answers depend on every layer."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from mobilenets.models.layers import Normalizer
from mobilenets.models.registry import create_model
from mobilenets.output_capture import capture_stderr
from mobilenets.preprocessing import Preprocessing
from mobilenets.tflite.model import TfliteModel
from mobilenets.tflite.reader import read_model

DATA = Path(__file__).parents[3] / "shared" / "data"


def lively(name: str, seed: int = 0, **options: object) -> nn.Module:
    """A network as if trained: batch norm statistics of its own images, so that no layer is asleep or a constant."""
    torch.manual_seed(seed)
    model = create_model(name, **{"num_classes": 7, "width_mult": 0.25, "image_size": 32, **options})
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the plain average over what follows
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, 0, 0.2)
    channels = model.config.in_channels
    size = model.config.image_size
    with torch.no_grad():
        for _ in range(2):
            model(torch.rand(8, channels, size, size) * 2 - 1)
    return model.eval()


def expected(model: nn.Module, preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """PyTorch's logits."""
    with torch.inference_mode():
        return np.asarray(nn.Sequential(Normalizer(preprocessing), model)(torch.from_numpy(images)).numpy())


def answers(file: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """LiteRT's logits, all images at once."""
    with capture_stderr():
        interpreter = Interpreter(model_content=file, num_threads=1)
        source = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(source, images.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(source, images)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def decoded(file: bytes, folder: Path) -> TfliteModel:
    """The file as the project's own reader sees it."""
    path = folder / "model.tflite"
    path.write_bytes(file)
    return read_model(path)


def operators(file: bytes, folder: Path) -> dict[str, int]:
    """How many of each kind."""
    return dict(Counter(operator.kind for operator in decoded(file, folder).operators))


def noise(count: int, size: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    """Images of soft random colours."""
    small = np.random.default_rng(1).integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(-(-size // 4), 1).repeat(-(-size // 4), 2)[:, :size, :size])


def photographs(archive: str, preprocessing: Preprocessing, count: int) -> NDArray[np.uint8]:
    """Real images out of a zip, evenly drawn."""
    path = DATA / archive
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    with zipfile.ZipFile(path) as file:
        names = [name for name in file.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png"))]
        chosen = names[:: len(names) // count][:count]
        pictures = [Image.open(io.BytesIO(file.read(name))).convert("RGB") for name in chosen]
    return np.stack([preprocessing.arrange(picture) for picture in pictures])


def google(name: str) -> Path:
    """One of Google's own files."""
    path = DATA / "google" / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    return path
