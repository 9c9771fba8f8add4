from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from mobilenets.artifact.container import read_artifact
from mobilenets.errors import ArtifactError, ExportError, MobilenetsError
from mobilenets.exporters.export import export_onnx
from mobilenets.exporters.onnx import to_onnx
from mobilenets.exporters.verify import check_parity, network_predict
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import open_backend

pytestmark = pytest.mark.slow

CLASSES = tuple("0123456789")
UNUSUAL = Preprocessing(image_size=24, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
Make = Callable[..., Any]


def exported(folder: Path, model: nn.Module, preprocessing: Preprocessing, classes: tuple[str, ...] = CLASSES) -> Path:
    path = folder / "model.onnx"
    export_onnx(model, path, preprocessing=preprocessing, classes=classes)
    return path


def agree(model: nn.Module, path: Path, preprocessing: Preprocessing, scans: Make) -> None:
    answers = open_backend(read_artifact(path), threads=1).predict
    parity = check_parity(network_predict(model, preprocessing), answers, scans(preprocessing), 1e-4)
    assert parity.top1_agreement == 100


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory, shaken: Make) -> tuple[nn.Module, Path]:
    model = shaken("mobilenet_v2", image_size=24, width_mult=0.35)
    return model, exported(tmp_path_factory.mktemp("v2"), model, UNUSUAL)


def test_v2_with_other_normalisation(v2: tuple[nn.Module, Path], scans: Make) -> None:
    agree(*v2, UNUSUAL, scans)


def test_grey_images(tmp_path: Path, shaken: Make, scans: Make) -> None:
    preprocessing = Preprocessing(image_size=16, channels=1, mean=(0.3,), std=(0.2,))
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1)
    model = shaken(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)))
    agree(model, exported(tmp_path, model, preprocessing), preprocessing, scans)


def test_input_and_output(v2: tuple[nn.Module, Path]) -> None:
    onnx.checker.check_model(v2[1], full_check=True)
    file = onnx.load(v2[1])
    (images,), (logits,) = file.graph.input, file.graph.output

    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [side.dim_param or side.dim_value for side in tensor.shape.dim]

    assert described(images) == ("images", onnx.TensorProto.UINT8, ["batch", 24, 24, 3])
    assert described(logits) == ("logits", onnx.TensorProto.FLOAT, ["batch", 10])
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 18)]


def test_what_travels_along(v2: tuple[nn.Module, Path]) -> None:
    described = read_artifact(v2[1]).description
    assert (described.kind, described.precision, described.dynamic_batch) == ("onnx", "fp32", True)
    assert (described.classes, described.preprocessing) == (CLASSES, UNUSUAL)
    assert described.network["name"] == "mobilenet_v2"
    assert described.golden.images.shape == (4, 24, 24, 3)
    assert set(described.provenance) == {"mobilenets", "torch"}


def test_half_the_bytes(tiny: nn.Module, scans: Make) -> None:
    preprocessing = Preprocessing(image_size=16)
    (half,) = to_onnx(tiny, preprocessing, precision="fp16").payload.values()
    file = onnx.load_from_string(half)
    onnx.checker.check_model(file, full_check=True)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    stored = [array for name, array in weights.items() if name.endswith(".fp16")]
    assert {array.shape for array in stored} >= {(8, 3, 3, 3), (10, 8)}
    assert all(array.dtype == np.float16 for array in stored)
    assert all(array.size <= 1 or array.dtype != np.float32 for array in weights.values())


def test_a_weight_fp16_can_not_hold() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    nn.init.constant_(model[2].weight, 1e5)
    with pytest.raises(ExportError, match="beyond what fp16 holds"):
        to_onnx(model, Preprocessing(image_size=8), precision="fp16")


def test_no_other_precision(tiny: nn.Module) -> None:
    with pytest.raises(MobilenetsError, match="fp32 or fp16, not int8"):
        to_onnx(tiny, Preprocessing(image_size=8), precision="int8")


def test_equal_networks_make_equal_files(tmp_path: Path, tiny: nn.Module) -> None:
    first = exported(tmp_path, tiny, UNUSUAL).read_bytes()
    assert exported(tmp_path / "again", tiny, UNUSUAL).read_bytes() == first


def test_the_name_has_to_fit(tmp_path: Path, tiny: nn.Module) -> None:
    with pytest.raises(ArtifactError, match=r"end in \.onnx"):
        export_onnx(tiny, tmp_path / "model.tflite", preprocessing=UNUSUAL, classes=CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_the_file_holds_no_traces_of_this_machine(v2: tuple[nn.Module, Path]) -> None:
    content = v2[1].read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_the_model_is_left_as_it_was_and_nothing_is_printed(
    tmp_path: Path, tiny: nn.Module, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = copy.deepcopy(tiny).train()
    model[2] = nn.ReLU6(inplace=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    with caplog.at_level(logging.DEBUG):
        exported(tmp_path, model, Preprocessing(image_size=16))
    assert model.training
    assert all(module.inplace for module in model.modules() if isinstance(module, nn.ReLU6))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


class Branching(nn.Module):
    """A network whose forward looks at its input, which symbolic tracing can't follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(images))
        if features.shape[2] > 1:
            features = features.mean((2, 3), keepdim=True)
        return self.linear(features.flatten(1))


def test_a_network_that_can_not_be_traced_symbolically(tmp_path: Path, shaken: Make, scans: Make) -> None:
    preprocessing = Preprocessing(image_size=8)
    model = shaken(Branching())
    path = exported(tmp_path, model, preprocessing, ("a", "b"))
    agree(model, path, preprocessing, scans)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}


class Unexportable(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.sum() > 0:
            return images.mean((2, 3))
        return images.amax((2, 3))


def test_a_network_that_can_not_be_exported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="can't be written as ONNX") as caught:
        exported(tmp_path, Unexportable(), Preprocessing(image_size=8), ("a", "b", "c"))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_classes_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there are 10 classes"):
        exported(tmp_path, Branching(), Preprocessing(image_size=8))
