"""Sensitivity: the layer that was spoiled is found, and a layer's rounding is measured alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mobilenets.errors import QuantizationError
from mobilenets.exporters.onnx import MODEL
from mobilenets.quantization.onnx import PtqSettings, float_layer_steps, quantize_file
from mobilenets.quantization.qdq import count_pairs, graft, layer_nodes
from mobilenets.quantization.sensitivity import LayerNoise, decibels, rank_layers

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from onnx import ModelProto

    from conftest import Quantizable

onnx = pytest.importorskip("onnx")
pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def plain(v1: Quantizable) -> ModelProto:
    built = quantize_file(v1.file, v1.calibration, PtqSettings())
    return onnx.load_from_string(built.exported.payload[MODEL])


def test_one_layer_alone_is_rounded(v1: Quantizable, plain: ModelProto) -> None:
    node = layer_nodes(v1.file)["blocks.4.depthwise.conv"]
    grafted = graft(v1.file, plain, node)
    onnx.checker.check_model(grafted, full_check=True)
    pairs = count_pairs(grafted)
    assert (pairs.integer_layers, pairs.quantize, pairs.dequantize) == (1, 1, 2)


def test_a_layer_made_coarse_is_ranked_first(v1: Quantizable, plain: ModelProto) -> None:
    layer = "blocks.5.pointwise.conv"
    coarse = onnx.ModelProto()
    coarse.CopyFrom(plain)
    made_by = {output: node for node in coarse.graph.node for output in node.output}
    node = next(node for node in coarse.graph.node if node.name == layer_nodes(v1.file)[layer])
    scale = next(tensor for tensor in coarse.graph.initializer if tensor.name == made_by[node.input[0]].input[1])
    wide = onnx.numpy_helper.to_array(scale) * np.float32(100)
    scale.CopyFrom(onnx.numpy_helper.from_array(wide, scale.name))
    ranked = rank_layers(v1.file, coarse, v1.calibration.images[:16])
    assert ranked[0].layer == layer
    assert ranked[0].decibels < ranked[1].decibels - 6
    assert {entry.layer for entry in ranked} == set(layer_nodes(v1.file))


def test_a_float_file_has_nothing_to_rank(v1: Quantizable) -> None:
    with pytest.raises(QuantizationError, match="no layer of the file is quantized"):
        rank_layers(v1.file, v1.file, v1.calibration.images[:2])


def test_decibels() -> None:
    signal = np.full(4, 10.0)
    assert decibels(signal, np.full(4, 1.0)) == pytest.approx(20.0)
    assert decibels(signal, np.zeros(4)) == np.inf
    assert decibels(signal, np.full(4, np.nan)) == -np.inf


def test_layers_go_float_by_twos_up_to_a_quarter() -> None:
    ranked = tuple(LayerNoise(f"layer{number}", float(number)) for number in range(20))
    kept = [step.change(PtqSettings()).float_layers for step in float_layer_steps(ranked)]
    assert kept == [("layer0",), ("layer0", "layer1"), ("layer0", "layer1", "layer2", "layer3")]
