"""Reading and editing ONNX files whose 8-bit arithmetic is written as QuantizeLinear and DequantizeLinear pairs (QDQ).

A runtime sees `DequantizeLinear -> Conv -> QuantizeLinear` and runs one integer convolution; what lies outside such
pairs stays float. Source: ONNX operators QuantizeLinear and DequantizeLinear; ONNX Runtime, "Quantize ONNX models".

What NNCF's choice of types and places leaves out, so that the runtimes compute such a file in integers, was found by
counting `QLinearConv` in the graphs ONNX Runtime makes of them:

- A convolution becomes integer only when its input and output have one type. NNCF stores what is never negative as
  uint8 and all else as int8, so that a convolution behind a ReLU whose own output is linear stays float: 15 of
  MobileNetV2's 52. As uint8 with zero point 128 the int8 values are the same values (`make_unsigned`).
- A ReLU or ReLU6 is left to the rounding only where the rounding ends where it does, as uint8 with zero point 0 does.
  TensorRT wants int8 all the same, hence `make_signed` for it alone.
- h-swish has no integer form. NNCF puts pairs around convolution and h-swish together, as OpenVINO likes it, and ONNX
  Runtime then computes both in float, slower than a float file. A pair between the two makes the convolution integer
  (`enclose_layers`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mobilenets.machine import usable_cores
from mobilenets.quantization.search import CalibrationImages

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


_INTO_UNSIGNED = 128
_LOW, _HIGH = "{}/low", "{}/high"
_RAW, _QUANTIZED, _SCALE, _ZERO = "{}/raw", "{}/quantized", "{}/scale", "{}/zero_point"


def make_unsigned(file: ModelProto) -> None:
    """Store int8 activations as uint8 with the zero point moved by 128, in place: the same values, one type for all."""
    from onnx import numpy_helper

    for _, zero in _activation_parameters(file):
        values = numpy_helper.to_array(zero)
        if values.dtype == np.int8:
            moved = (values.astype(np.int16) + _INTO_UNSIGNED).astype(np.uint8)
            zero.CopyFrom(numpy_helper.from_array(moved, zero.name))


def make_signed(file: ModelProto) -> None:
    """Store never-negative activations as int8 instead of uint8, in place; both with zero point 0.

    Costs them half of their steps, and is what TensorRT demands: 8-bit arithmetic is symmetric throughout then.
    """
    from onnx import numpy_helper

    for scale, zero in _activation_parameters(file):
        values = numpy_helper.to_array(zero)
        if values.dtype == np.uint8 and not values.any():
            wider = (numpy_helper.to_array(scale) * (255 / 127)).astype(np.float32)
            scale.CopyFrom(numpy_helper.from_array(wider, scale.name))
            zero.CopyFrom(numpy_helper.from_array(np.zeros_like(values, dtype=np.int8), zero.name))


def enclose_layers(file: ModelProto, source: ModelProto, calibration: CalibrationImages, *, extremes: bool) -> int:
    """Put a pair behind each quantized layer whose output goes unrounded into a h-swish or h-sigmoid, in place.

    Args:
        file: the quantized network.
        source: its float form, whose tensors have the same names; ranges are those it has on the calibration images.
        calibration: the images.
        extremes: whether a range goes from the smallest to the largest value seen, else between their means over the
            images.

    Returns:
        How many layers were enclosed.
    """
    layers = _open_layers(file)
    if layers:
        ranges = _ranges(source, [layer.output[0] for layer in layers], calibration, extremes)
        for layer in layers:
            _enclose(file, layer, *ranges[layer.output[0]])
    return len(layers)


def _activation_parameters(file: ModelProto) -> list[tuple[TensorProto, TensorProto]]:
    """Scale and zero point of every activation, each once; weights, which are stored quantized, have none here."""
    tensors = {tensor.name: tensor for tensor in file.graph.initializer}
    named = {(node.input[1], node.input[2]) for node in file.graph.node if node.op_type == "QuantizeLinear"}
    return [(tensors[scale], tensors[zero]) for scale, zero in sorted(named)]


def _open_layers(file: ModelProto) -> list[NodeProto]:
    """Layers of quantized weights that feed an activation ONNX Runtime has no integer form of."""
    users: dict[str, list[str]] = defaultdict(list)
    for node in file.graph.node:
        for name in node.input:
            users[name].append(node.op_type)
    dequantized = {output for node in file.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return [
        node
        for node in file.graph.node
        if node.op_type in LAYERS
        and node.input[1] in dequantized
        and {"HardSwish", "HardSigmoid"}.intersection(users[node.output[0]])
    ]


def _ranges(
    source: ModelProto, names: list[str], calibration: CalibrationImages, extremes: bool
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each tensor; the session reduces them, since whole tensors would fill memory."""
    session = _reducing_session(source, names)
    wanted = [form.format(name) for name in names for form in (_LOW, _HIGH)]
    image_input = session.get_inputs()[0].name
    seen: list[list[NDArray[np.float32]]] = [
        session.run(wanted, {image_input: batch}) for batch in calibration.batches()
    ]
    found = {name: np.concatenate(parts) for name, parts in zip(wanted, zip(*seen, strict=True), strict=True)}
    lowest, highest = (np.min, np.max) if extremes else (np.mean, np.mean)
    return {
        name: (float(lowest(found[_LOW.format(name)])), float(highest(found[_HIGH.format(name)]))) for name in names
    }


def _reducing_session(source: ModelProto, names: list[str]):  # type: ignore[no-untyped-def]  # onnxruntime has no types
    import onnx
    import onnxruntime
    from onnx import helper

    watched = onnx.ModelProto()
    watched.CopyFrom(source)
    for name in names:
        # One row an image, whatever the tensor's rank.
        watched.graph.node.append(helper.make_node("Flatten", [name], [f"{name}/flat"], axis=1))
        for form, operator in ((_LOW, "ReduceMin"), (_HIGH, "ReduceMax")):
            output = form.format(name)
            axes = f"{output}/axes"
            watched.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), axes))
            watched.graph.node.append(helper.make_node(operator, [f"{name}/flat", axes], [output], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch"]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _enclose(file: ModelProto, layer: NodeProto, low: float, high: float) -> None:
    from onnx import helper, numpy_helper

    name = layer.output[0]
    scale, zero = affine(low, high)
    file.graph.initializer.append(numpy_helper.from_array(np.array(scale), _SCALE.format(name)))
    file.graph.initializer.append(numpy_helper.from_array(np.array(zero), _ZERO.format(name)))
    layer.output[0] = _RAW.format(name)
    parameters = [_SCALE.format(name), _ZERO.format(name)]
    stored = _QUANTIZED.format(name)
    pair = (
        helper.make_node("QuantizeLinear", [layer.output[0], *parameters], [stored], name=f"{name}/quantize"),
        helper.make_node("DequantizeLinear", [stored, *parameters], [name], name=f"{name}/dequantize"),
    )
    place = next(index for index, node in enumerate(file.graph.node) if node.name == layer.name)
    for offset, node in enumerate(pair, start=1):
        file.graph.node.insert(place + offset, node)


def affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 for values from `low` to `high`; the range is widened to hold 0, exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1.0)  # a tensor that is all zeros
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))
