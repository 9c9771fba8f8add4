"""What the exported graphs consist of: no norm, no stray transpose, h-swish in one piece; counted for every family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
from torch import nn

from mobilenets.exporters.onnx import to_onnx
from mobilenets.exporters.openvino import to_openvino
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.verify import check_parity, network_predict, opened
from mobilenets.models.layers import SqueezeExcitation
from mobilenets.models.mobilenet_v4_blocks import MultiQueryAttention
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

CLASSES = tuple("0123456789")
PLAIN = Preprocessing(image_size=32)
NETWORKS: dict[str, dict[str, Any]] = {
    "mobilenet_v1": {},
    "mobilenet_v2": {"padding": "same"},
    "mobilenet_v3_small": {"width_mult": 0.35, "num_classes": 10},
    "mobilenet_v4_conv_small": {},
    "mobilenet_v4_hybrid_medium": {"width_mult": 0.1},
}
ONNX_ACTIVATIONS = {nn.ReLU: "Relu", nn.ReLU6: "Clip", nn.Hardswish: "HardSwish", nn.Hardsigmoid: "HardSigmoid"}
OPENVINO_ACTIVATIONS = {nn.ReLU: "Relu", nn.ReLU6: "Clamp", nn.Hardswish: "HSwish", nn.Hardsigmoid: "HardSigmoid"}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, shaken: Callable[..., nn.Module]) -> tuple[nn.Module, Exported]:
    model = shaken(request.param, **NETWORKS[request.param])
    return model, to_onnx(model, PLAIN)


def modules(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def test_onnx(network: tuple[nn.Module, Exported], scans: Callable[..., Any]) -> None:
    model, exported = network
    (content,) = exported.payload.values()
    file = onnx.load_from_string(content)
    onnx.checker.check_model(file, full_check=True)
    found = Counter(node.op_type for node in file.graph.node)
    attentions, gates = modules(model, MultiQueryAttention), modules(model, SqueezeExcitation)
    assert found["Conv"] == modules(model, nn.Conv2d)
    assert {name: found[name] for name in ONNX_ACTIVATIONS.values()} == {
        name: modules(model, kind) for kind, name in ONNX_ACTIVATIONS.items()
    }
    # One transpose of the pictures; attention's own three, of queries, values and answers, are its arithmetic.
    assert found["Transpose"] == 1 + 3 * attentions
    # One multiplication to normalise, one for each gate: nothing scales queries or branches any more.
    assert found["Mul"] == 1 + gates
    assert found["ReduceMean"] == 1 + gates
    assert found["BatchNormalization"] == sum(_has_downsample(module) for module in model.modules())
    assert not {"Pad", "Div", "Sub", "Shape", "Gather", "Slice", "Concat", "Expand", "Identity"} & set(found)
    with opened(exported, "onnx", precision="fp32", preprocessing=PLAIN, classes=CLASSES, threads=1) as backend:
        parity = check_parity(network_predict(model, PLAIN), backend.predict, scans(PLAIN), 1e-4)
    assert parity.top1_agreement == 100


def test_openvino(
    network: tuple[nn.Module, Exported], tmp_path: Path, scans: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, onnx_exported = network
    # The same ONNX again: translating it once for both tests halves their time.
    monkeypatch.setattr("mobilenets.exporters.openvino.to_onnx", lambda *_: onnx_exported)
    exported = to_openvino(model, PLAIN)
    for name, content in exported.payload.items():
        (tmp_path / name).write_bytes(content)
    graph = openvino.Core().read_model(tmp_path / "model.xml")
    found = Counter(node.get_type_name() for node in graph.get_ordered_ops())
    attentions, gates = modules(model, MultiQueryAttention), modules(model, SqueezeExcitation)
    assert found["Convolution"] + found["GroupConvolution"] == modules(model, nn.Conv2d)
    assert {name: found[name] for name in OPENVINO_ACTIVATIONS.values()} == {
        name: modules(model, kind) for kind, name in OPENVINO_ACTIVATIONS.items()
    }
    # Attention keeps two of its three: the one of the keys is within the matrix product.
    assert found["Transpose"] == 1 + 2 * attentions
    assert found["Multiply"] == 1 + gates + sum(_has_downsample(module) for module in model.modules())
    assert not {"Pad", "Divide", "Subtract", "ShapeOf", "Gather", "StridedSlice", "Concat"} & set(found)
    (images,) = graph.inputs
    assert (images.any_name, str(images.partial_shape), images.element_type.to_string()) == (
        "images",
        "[?,32,32,3]",
        "u8",
    )
    with opened(exported, "openvino", precision="fp32", preprocessing=PLAIN, classes=CLASSES, threads=1) as backend:
        assert backend.name == "openvino"
        check_parity(network_predict(model, PLAIN), backend.predict, scans(PLAIN), 1e-4)


def _has_downsample(module: nn.Module) -> bool:
    """Whether it is attention whose keys pass a padded filter, ahead of which the norm can't be folded."""
    return isinstance(module, MultiQueryAttention) and len(module.key) > 1
