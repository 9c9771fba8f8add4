"""Reading and editing ONNX files whose 8-bit arithmetic is written as QuantizeLinear and DequantizeLinear pairs (QDQ).

A runtime sees `DequantizeLinear -> Conv -> QuantizeLinear` and runs one integer convolution; what lies outside such
pairs stays float. Source: ONNX operators QuantizeLinear and DequantizeLinear; ONNX Runtime, "Quantize ONNX models".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

LAYERS = ("Conv", "Gemm", "MatMul")
_NETWORK = "2."  # the exported network is the third of normalisation, layout and network


@dataclass(frozen=True)
class Pairs:
    """What a QDQ file is made of.

    Attributes:
        layers: convolutions and linear layers.
        integer_layers: those whose data and weights both come out of a DequantizeLinear.
        quantize: QuantizeLinear nodes.
        dequantize: DequantizeLinear nodes; more than the former, since weights are stored quantized.
        symmetric: every zero point is 0 and every value int8, and no activation has a scale a channel.
    """

    layers: int
    integer_layers: int
    quantize: int
    dequantize: int
    symmetric: bool


def count_pairs(file: ModelProto) -> Pairs:
    """Count the pairs of a file and look whether they are symmetric."""
    constants = _arrays(file.graph)
    made_by = {output: node for node in file.graph.node for output in node.output}
    nodes = [node for node in file.graph.node if node.op_type in LAYERS]
    quantizers = [node for node in file.graph.node if node.op_type == "QuantizeLinear"]
    dequantizers = [node for node in file.graph.node if node.op_type == "DequantizeLinear"]
    fed = [all(_is_dequantized(name, made_by) for name in node.input[:2]) for node in nodes]
    # Without a zero point a value is stored as uint8.
    zeros = [constants.get(node.input[2]) if len(node.input) > 2 else None for node in (*quantizers, *dequantizers)]
    symmetric = all(zero is not None and zero.dtype == np.int8 and not zero.any() for zero in zeros)
    per_tensor = all(constants[node.input[1]].size == 1 for node in quantizers)
    return Pairs(len(nodes), sum(fed), len(quantizers), len(dequantizers), symmetric and per_tensor)


def layer_nodes(file: ModelProto) -> dict[str, str]:
    """Names of a float file's layers as its network has them, e.g. `blocks.3.depthwise.conv`, with their nodes'."""
    constants = {tensor.name for tensor in file.graph.initializer}
    found = {}
    for node in file.graph.node:
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in constants:
            found[node.input[1].removeprefix(_NETWORK).removesuffix(".weight")] = node.name
    return found


def graft(float_file: ModelProto, quantized: ModelProto, node_name: str) -> ModelProto:
    """The float file with the rounding of one layer's data and weights, as the quantized file has it.

    Args:
        float_file: the float network; it is not touched.
        quantized: the same network with pairs, its other nodes named as in the float file.
        node_name: of a layer both have.

    Returns:
        A copy, in which only that layer computes in 8 bits.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(float_file)
    made_by = {output: node for node in quantized.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    there = next(node for node in quantized.graph.node if node.name == node_name)
    here = next(node for node in result.graph.node if node.name == node_name)
    added: list[NodeProto] = []
    for position in range(2):
        source = here.input[position]
        for node in _rounding(there.input[position], made_by):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.input[0] not in tensors:  # the data; weights are stored quantized
                copy.input[0] = source
            source = copy.output[0]
            added.append(copy)
            result.graph.initializer.extend(_missing(node, tensors, result.graph))
        here.input[position] = source
    place = list(result.graph.node).index(here)
    for offset, node in enumerate(added):
        result.graph.node.insert(place + offset, node)
    return result


def _rounding(name: str, made_by: Mapping[str, NodeProto]) -> list[NodeProto]:
    """The pair that makes this tensor, in order; what lies between it and the layer (a Reshape) moves no value."""
    node = made_by.get(name)
    while node is not None and node.op_type in ("Reshape", "Transpose", "Flatten", "Squeeze"):
        node = made_by.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return []
    first = made_by.get(node.input[0])
    return [node] if first is None else [first, node]


def _is_dequantized(name: str, made_by: Mapping[str, NodeProto]) -> bool:
    return bool(_rounding(name, made_by))


def _missing(node: NodeProto, tensors: Mapping[str, TensorProto], graph: GraphProto) -> list[TensorProto]:
    present = {tensor.name for tensor in graph.initializer}
    return [tensors[name] for name in node.input if name in tensors and name not in present]


def _arrays(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
