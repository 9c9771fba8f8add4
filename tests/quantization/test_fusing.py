"""Passes over QDQ files: the same values otherwise written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.quantization.qdq import affine, enclose_layers, make_signed, make_unsigned
from mobilenets.quantization.results import CalibrationSummary
from mobilenets.quantization.search import CalibrationImages

if TYPE_CHECKING:
    from onnx import ModelProto

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def rounding(zero: np.generic, scale: float = 0.1) -> ModelProto:
    """A file of one pair over one vector."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(np.float32(scale)), "scale"),
        numpy_helper.from_array(np.array(zero), "zero"),
    ]
    vector = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "pair", vector[:1], vector[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(file: ModelProto, **inputs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    answered: np.ndarray = session.run(None, inputs)[0]  # type: ignore[type-arg]
    return answered


VALUES = np.linspace(-20, 20, 4001).astype(np.float32)


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(-128), np.int8(17), np.uint8(0), np.uint8(90)])
def test_unsigned_rounds_to_the_same_values(zero: np.generic) -> None:
    before = run(rounding(zero), x=VALUES)
    file = rounding(zero)
    make_unsigned(file)
    kind = {t.name: numpy_helper.to_array(t).dtype for t in file.graph.initializer}["zero"]
    assert kind == np.uint8
    assert np.array_equal(run(file, x=VALUES), before)


def test_signed_covers_the_same_range_with_half_the_steps() -> None:
    file = rounding(np.uint8(0))
    make_signed(file)
    answered = run(file, x=VALUES[VALUES >= 0])
    assert answered.max() == pytest.approx(run(rounding(np.uint8(0)), x=VALUES).max(), rel=0.01)
    assert np.abs(answered - VALUES[VALUES >= 0]).max() <= 0.1 * 255 / 127 / 2 + 1e-4
    assert len(np.unique(answered)) < len(np.unique(run(rounding(np.uint8(0)), x=VALUES)))


@given(low=st.floats(-50, 50), width=st.floats(1e-3, 100))
def test_affine_holds_its_range_and_zero_exactly(low: float, width: float) -> None:
    scale, zero = affine(low, low + width)
    back = (np.array([0, 255]) - np.float32(zero)) * scale
    assert back[0] <= min(low, 0) + scale
    assert back[1] >= max(low + width, 0) - scale
    assert scale > 0


def test_affine_of_nothing_can_still_be_divided_by() -> None:
    assert affine(0.0, 0.0) == (np.float32(1.0), np.uint8(0))


def hard_swish_file(*, quantized: bool) -> ModelProto:
    """Pictures through a 1x1 convolution and h-swish, the convolution's weights behind a pair or not."""
    weights = np.arange(-6, 6, dtype=np.int8).reshape(4, 3, 1, 1)
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["data"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["data", "weights"], ["sums"], name="layer"),
        helper.make_node("HardSwish", ["sums"], ["activated"]),
    ]
    constants = [numpy_helper.from_array(weights * np.float32(0.01), "weights")]
    if quantized:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["weights"]))
        stored = {"stored": weights, "scale": np.array(np.float32(0.01)), "zero": np.array(np.int8(0))}
        constants = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    pictures = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", 2, 2, 3])
    output = helper.make_tensor_value_info("activated", onnx.TensorProto.FLOAT, ["batch", 4, 2, 2])
    graph = helper.make_graph(nodes, "swish", [pictures], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("extremes", [True, False])
def test_enclosing_rounds_within_the_range_seen(extremes: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3)).astype(np.uint8)
    calibration = CalibrationImages(images, np.zeros(40, np.int64), CalibrationSummary(40, 1, 0))
    source, file = hard_swish_file(quantized=False), hard_swish_file(quantized=True)
    before = run(file, images=images)
    assert enclose_layers(file, source, calibration, extremes=extremes) == 1
    sums = np.einsum("bhwc,oc->bohw", images.astype(np.float64), np.arange(-6, 6).reshape(4, 3) * 0.01)
    rows = sums.reshape(len(images), -1)
    low, high = (rows.min(), rows.max()) if extremes else (rows.min(axis=1).mean(), rows.max(axis=1).mean())
    scale = next(numpy_helper.to_array(t) for t in file.graph.initializer if t.name == "sums/scale")
    assert scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-4)
    inside = (sums >= low) & (sums <= high)
    assert np.abs(run(file, images=images) - before)[inside].max() <= 1.6 * scale  # h-swish is nowhere steeper than 1.5
    assert enclose_layers(file, source, calibration, extremes=extremes) == 0  # once is enough


def test_float_layers_are_left_alone() -> None:
    images = np.zeros((2, 2, 2, 3), np.uint8)
    calibration = CalibrationImages(images, np.zeros(2, np.int64), CalibrationSummary(2, 1, 0))
    source = hard_swish_file(quantized=False)
    assert enclose_layers(hard_swish_file(quantized=False), source, calibration, extremes=True) == 0
