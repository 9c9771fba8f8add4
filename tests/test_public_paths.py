"""Every public function takes paths as text."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

import mobilenets
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

CLASSES = ("blue", "red")
FUNCTIONS = [name for name in mobilenets.__all__ if inspect.isfunction(getattr(mobilenets, name))]


def of(name):
    """The parameters of a function with what they may be."""
    return inspect.signature(getattr(mobilenets, name)).parameters.items()


@pytest.mark.parametrize("name", [*FUNCTIONS, "Classifier"])
def test_what_may_be_a_path_may_be_text(name):
    for parameter, description in of(name):
        allowed = str(description.annotation)
        assert "Path" not in allowed or "str" in allowed or "GivenPaths" in allowed, f"{name}({parameter}: {allowed})"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of labelled images, a run folder made without training, and the exported network; all as text."""
    folder = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for name, channel in zip(CLASSES, (2, 0), strict=True):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 99, (20, 20, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    torch.manual_seed(0)
    model = mobilenets.create_model("mobilenet_v1", num_classes=2, width_mult=0.25, image_size=16).eval()
    (folder / "run").mkdir()
    save_network(folder / "run", SavedNetwork(model, CLASSES, Preprocessing(image_size=16), {}))
    (folder / "exclude.txt").write_text("images/blue/0.png\n")
    mobilenets.export_onnx(model, f"{folder}/net.onnx", preprocessing=Preprocessing(image_size=16), classes=CLASSES)
    return str(folder)


CALLS = {
    "load_network": lambda place, _: mobilenets.load_network(f"{place}/run").classes == CLASSES,
    "load_dataset": lambda place, _: mobilenets.load_dataset(f"{place}/images", data_root=place).classes == CLASSES,
    "doctor": lambda place, out: mobilenets.doctor(f"{place}/images", out, data_root=place),
    "shard": lambda place, out: mobilenets.shard(f"{place}/images", out, data_root=place),
    "audit": lambda place, _: mobilenets.audit(f"{place}/run"),
    "create_from_weights": lambda place, _: mobilenets.create_from_weights(
        "mobilenet_v1", f"{place}/run/model.safetensors", {"num_classes": 2, "width_mult": 0.25, "image_size": 16}
    ),
    "export": lambda place, out: mobilenets.export(f"{place}/run", f"{out}.onnx", to="onnx").artifact,
    "Classifier": lambda place, _: mobilenets.Classifier(f"{place}/net.onnx").predict(f"{place}/images/red/0.png"),
    "predict_files": lambda place, _: (
        len(list(mobilenets.predict_files(mobilenets.Classifier(f"{place}/net.onnx"), f"{place}/images"))) == 12
    ),
    "benchmark": lambda place, _: (
        mobilenets.benchmark(
            f"{place}/net.onnx", backends="onnxruntime", threads=1, batch_sizes=1, seconds=0.1, starts=1
        ).rows
    ),
    "train": lambda place, out: mobilenets.train(
        "mobilenet_v1",
        f"{place}/images",
        out,
        recipe="quick",
        epochs=1,
        width_mult=0.25,
        image_size=16,
        data_root=place,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_it_is_called_with_text(place, tmp_path, name):
    assert CALLS[name](place, str(tmp_path / "out"))
