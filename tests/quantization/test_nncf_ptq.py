"""Post-training quantization: where the pairs are, of which type, and whether runtimes compute them in integers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mobilenets.errors import QuantizationError
from mobilenets.exporters.onnx import MODEL, broken_rules
from mobilenets.quantization.onnx import PtqSettings, quantize_file
from mobilenets.quantization.qdq import count_pairs, layer_nodes

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from onnx import ModelProto

    from conftest import Quantizable

onnx = pytest.importorskip("onnx")
pytest.importorskip("nncf")
onnxruntime = pytest.importorskip("onnxruntime")


def quantized(network: Quantizable, **settings: object) -> ModelProto:
    built = quantize_file(network.file, network.calibration, PtqSettings(**settings))  # type: ignore[arg-type]
    return onnx.load_from_string(built.exported.payload[MODEL])


@pytest.fixture(scope="module")
def plain_v1(v1: Quantizable) -> ModelProto:
    return quantized(v1)


@pytest.fixture(scope="module")
def plain_v3(v3: Quantizable) -> ModelProto:
    return quantized(v3)


def optimized(file: ModelProto, folder: Path) -> Counter[str]:
    """Operators of the graph ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_every_layer_is_fed_by_pairs(plain_v1: ModelProto) -> None:
    pairs = count_pairs(plain_v1)
    assert pairs.integer_layers == pairs.layers == 28  # 1 + 13 x 2 convolutions and the classifier
    assert pairs.dequantize == pairs.quantize + pairs.layers  # weights are stored quantized
    onnx.checker.check_model(plain_v1, full_check=True)


def test_onnx_runtime_computes_every_convolution_in_integers(plain_v1: ModelProto, tmp_path: Path) -> None:
    operators = optimized(plain_v1, tmp_path)
    assert operators["QLinearConv"] == 27
    assert operators["Conv"] == operators["FusedConv"] == 0


def test_h_swish_does_not_keep_convolutions_in_float(v3: Quantizable, plain_v3: ModelProto, tmp_path: Path) -> None:
    squeeze = sum("squeeze_excite" in layer for layer in layer_nodes(v3.file))
    convolutions = sum(node.op_type == "Conv" for node in v3.file.graph.node)
    enclosed = optimized(plain_v3, tmp_path)
    assert enclosed["QLinearConv"] == convolutions - squeeze
    loose = optimized(quantized(v3, enclosed=False), tmp_path)
    assert loose["QLinearConv"] < enclosed["QLinearConv"]


def test_activations_have_one_type_and_one_scale(plain_v3: ModelProto) -> None:
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in plain_v3.graph.initializer}
    quantizers = [node for node in plain_v3.graph.node if node.op_type == "QuantizeLinear"]
    assert {constants[node.input[2]].dtype for node in quantizers} == {np.dtype(np.uint8)}
    assert {constants[node.input[1]].size for node in quantizers} == {1}


def test_the_file_takes_pictures_and_gives_float_logits(v3: Quantizable, plain_v3: ModelProto) -> None:
    session = onnxruntime.InferenceSession(plain_v3.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(uint8)"
    for count in (1, 5):
        (logits,) = session.run(None, {"images": v3.calibration.images[:count]})
        assert logits.dtype == np.float32
        assert logits.shape == (count, 10)


@pytest.mark.parametrize("settings", [{}, {"ranges": "mean"}, {"float_layers": ("blocks.0.pointwise.conv",)}])
def test_signed_files_keep_tensorrts_rules_on_every_rung(v1: Quantizable, settings: dict[str, object]) -> None:
    assert broken_rules(quantized(v1, signed=True, **settings)) == ()


def test_only_signed_files_are_symmetric_as_tensorrt_demands(v3: Quantizable, plain_v3: ModelProto) -> None:
    assert not count_pairs(plain_v3).symmetric
    assert "uint8 values" in "".join(broken_rules(plain_v3))
    signed = quantized(v3, signed=True)
    assert count_pairs(signed).symmetric
    assert broken_rules(signed) == ()


def test_layers_asked_to_stay_float_do(v1: Quantizable) -> None:
    kept = ("blocks.3.pointwise.conv", "blocks.7.depthwise.conv")
    file = quantized(v1, float_layers=kept)
    assert count_pairs(file).integer_layers == 26
    floats = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in v1.file.graph.initializer}
    nodes = layer_nodes(v1.file)
    for layer in kept:
        node = next(node for node in file.graph.node if node.name == nodes[layer])
        kept_weights = next(tensor for tensor in file.graph.initializer if tensor.name == node.input[1])
        assert np.array_equal(onnx.numpy_helper.to_array(kept_weights), floats[node.input[1]])


def test_a_layer_that_is_not_there_is_named(v1: Quantizable) -> None:
    with pytest.raises(QuantizationError, match=r"no layer blocks\.99"):
        quantized(v1, float_layers=("blocks.99",))


def test_bias_correction_changes_biases_only(v1: Quantizable, plain_v1: ModelProto) -> None:
    corrected = {t.name: onnx.numpy_helper.to_array(t) for t in quantized(v1, bias_correction="fast").graph.initializer}
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in plain_v1.graph.initializer}
    changed = {name for name in before if name in corrected and not np.array_equal(before[name], corrected[name])}
    assert changed
    assert all(before[name].dtype == np.float32 and before[name].ndim == 1 for name in changed)


def test_the_float_file_is_not_touched(v1: Quantizable) -> None:
    before = v1.file.SerializeToString(deterministic=True)
    quantized(v1, bias_correction="fast", asymmetric=True)
    assert v1.file.SerializeToString(deterministic=True) == before


def test_nothing_is_printed_and_no_telemetry_is_sent(tmp_path: Path) -> None:
    """In a process of its own, since telemetry is off under pytest anyway."""
    code = (
        "from mobilenets.quantization.onnx import _nncf, capture_python_output\n"
        "with capture_python_output(): _nncf()\n"
        "import os\n"
        "from nncf.telemetry.wrapper import telemetry, NNCFTelemetry\n"
        "assert not isinstance(telemetry, NNCFTelemetry)\n"
        "assert 'NNCF_CI' not in os.environ\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
