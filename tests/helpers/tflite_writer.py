"""Our networks written as TensorFlow Lite files, in the forms converters write them: what tests read back.

LiteRT runs the files too, so that the writer itself is checked. Only for tests: no calibration worth the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from mobilenets.models.layers import ConvNormActivation, InvertedResidual, SameConv2d, SqueezeExcitation
from mobilenets.models.network import MobileNet

KINDS = schema.BuiltinOperator
OPTIONS = schema.BuiltinOptions
FUSED = {nn.ReLU: schema.ActivationFunctionType.RELU, nn.ReLU6: schema.ActivationFunctionType.RELU6}
INTEGERS = {"uint8": (np.uint8, 0, 255), "int8": (np.int8, -128, 127)}
INT8_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "RESHAPE": 1,
    "HARD_SWISH": 1,
} | dict.fromkeys(("ADD", "MUL", "MEAN", "PAD", "AVERAGE_POOL_2D", "SOFTMAX"), 2)
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}


@dataclass(frozen=True)
class Form:
    """How to write: `values` are float, float16, dynamic, uint8 (a scale a tensor) or int8 (a scale a channel)."""

    values: str = "float"
    in_pieces: bool = False  # activations as ADD, RELU6, MUL; batch norm as MUL and ADD
    fully_connected: bool = False  # in place of 1x1 convolutions behind the pool
    average_pool: bool = False  # in place of MEAN
    softmax: bool = False


@dataclass(frozen=True)
class Wire:
    """A tensor of the graph: its index, and its value for the calibration image `[1, C, H, W]`."""

    index: int
    value: Tensor


class TfliteWriter:
    """Builds one graph operator by operator; tensors are channels last in the file, first in `Wire`."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, "a test"
        self.model.operatorCodes, self.model.subgraphs = [], [self.graph]
        self.model.buffers, self.model.metadata = [schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []
        self._codes: dict[int, int] = {}

    def tensor(self, name: str, shape: Sequence[int], data: np.ndarray[Any, Any] | None, dtype: Any) -> Any:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), TYPES[np.dtype(dtype)]
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.graph.tensors.append(tensor)
        return tensor

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        code = getattr(KINDS, kind)
        if code not in self._codes:
            self._codes[code] = len(self.model.operatorCodes)
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 1
            entry.version = INT8_VERSIONS.get(kind, 1) if self.form.values in ("int8", "dynamic") else 1
            self.model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self._codes[code], list(inputs), [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(OPTIONS, type(options).__name__[:-1])
        self.graph.operators.append(operator)

    def wire(self, name: str, value: Tensor, *, zero_to_one: bool = False, like: Wire | None = None) -> Wire:
        """A computed tensor that holds `value` for the calibration image."""
        shape = (1, *value.shape[2:], value.shape[1]) if value.dim() == 4 else tuple(value.shape)
        integers = INTEGERS.get(self.form.values)
        tensor = self.tensor(name, shape, None, integers[0] if integers else np.float32)
        if integers:
            _, low, high = integers
            least, most = min(0.0, float(value.min())), max(0.1, float(value.max()))
            scale = (most - least) / (high - low)
            tensor.quantization = self._quantization([scale], [round(low - least / scale)], 0)
            if zero_to_one:
                tensor.quantization = self._quantization([1 / 256], [low], 0)
            if like is not None:
                tensor.quantization = self.graph.tensors[like.index].quantization
        return Wire(len(self.graph.tensors) - 1, value)

    def constant(self, name: str, values: np.ndarray[Any, Any], *, axis: int = 0, per_channel: bool = False) -> int:
        """Weights, stored as the form asks."""
        values = values.astype(np.float32)
        if self.form.values == "float" or (self.form.values == "dynamic" and values.ndim == 1):
            self.tensor(name, values.shape, values, np.float32)
        elif self.form.values == "float16":
            self.tensor(f"{name}_half", values.shape, values.astype(np.float16), np.float16)
            self.tensor(name, values.shape, None, np.float32)
            last = len(self.graph.tensors) - 1
            self.operator("DEQUANTIZE", [last - 1], last, schema.DequantizeOptionsT())
        elif self.form.values == "uint8" or not per_channel:
            _, low, high = INTEGERS["uint8" if self.form.values == "uint8" else "int8"]
            least, most = min(0.0, float(values.min())), max(1e-6, float(values.max()))
            scale = (most - least) / (high - low)
            self._stored(name, values, np.array([scale]), np.array([round(low - least / scale)]), 0)
        else:
            others = tuple(other for other in range(values.ndim) if other != axis)
            scales = np.maximum(np.abs(values).max(axis=others), 1e-6) / 127
            self._stored(name, values, scales, np.zeros(len(scales), int), axis)
        return len(self.graph.tensors) - 1

    def _stored(self, name: str, values: Any, scales: Any, points: Any, axis: int) -> None:
        dtype, low, high = INTEGERS["uint8" if self.form.values == "uint8" else "int8"]
        along = [1] * values.ndim
        along[axis] = len(scales)
        stored = np.round(values / scales.reshape(along)) + points.reshape(along)
        tensor = self.tensor(name, values.shape, np.clip(stored, low, high).astype(dtype), dtype)
        tensor.quantization = self._quantization(scales, points, axis)

    def bias(self, name: str, values: np.ndarray[Any, Any], source: Wire, weight: int) -> int:
        """A bias, in integers that count in input times weight scales."""
        if self.form.values in INTEGERS:
            given = self.graph.tensors[source.index].quantization.scale[0]
            scales = given * np.array(self.graph.tensors[weight].quantization.scale)
            tensor = self.tensor(name, values.shape, np.round(values / scales).astype(np.int32), np.int32)
            tensor.quantization = self._quantization(scales, [0] * len(scales), 0)
        else:
            self.tensor(name, values.shape, values.astype(np.float32), np.float32)
        return len(self.graph.tensors) - 1

    @staticmethod
    def _quantization(scales: Any, points: Any, axis: int) -> Any:
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [float(s) for s in scales], [int(p) for p in points]
        quantization.quantizedDimension = axis
        return quantization

    def save(self, path: Path, source: Wire, answer: Wire) -> None:
        self.graph.inputs, self.graph.outputs = [source.index], [answer.index]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))


def write_network(model: MobileNet, path: Path, form: Form | None = None, *, seed: int = 0) -> None:
    """Write the network, in evaluation mode, as a TensorFlow Lite file that takes images in [-1, 1]."""
    writer = TfliteWriter(form or Form())
    size, channels = model.config.image_size, model.config.in_channels
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, channels, size, size, generator=generator) * 2 - 1
    image[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    with torch.no_grad():
        source = writer.wire("image", image)
        answer = _network(writer, model, source)
    writer.save(path, source, answer)


def _network(writer: TfliteWriter, model: MobileNet, source: Wire) -> Wire:
    x = _conv_norm(writer, "stem", model.stem, source)
    for number, block in enumerate(model.blocks):
        before = x
        for name, part in block.named_children():
            emit = _squeeze_excite if isinstance(part, SqueezeExcitation) else _conv_norm
            x = emit(writer, f"block{number}/{name}", part, x)
        if isinstance(block, InvertedResidual) and block.has_shortcut:
            total = writer.wire(f"block{number}/sum", before.value + x.value)
            writer.operator("ADD", [before.index, x.index], total.index, schema.AddOptionsT())
            x = total
    if model.head is not None:
        x = _conv_norm(writer, "head", model.head, x)
    x = _pool(writer, "pool", x)
    if model.penultimate is not None:
        x = _layer(writer, "penultimate", model.penultimate.linear, x, None, model.penultimate.activation)
        x = _activation(writer, "penultimate", model.penultimate.activation, x)
    x = _layer(writer, "logits", model.classifier, x, None)
    flat = writer.wire("squeezed", x.value.flatten(1), like=x)
    writer.operator("RESHAPE", [x.index, _numbers(writer, [1, -1])], flat.index)
    if not writer.form.softmax:
        return flat
    chances = writer.wire("chances", flat.value.softmax(1), zero_to_one=True)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    writer.operator("SOFTMAX", [flat.index], chances.index, options)
    return chances


def _numbers(writer: TfliteWriter, numbers: Any) -> int:
    values = np.array(numbers, np.int32)
    writer.tensor("numbers", values.shape, values, np.int32)
    return len(writer.graph.tensors) - 1


def _conv_norm(writer: TfliteWriter, name: str, part: Any, x: Wire) -> Wire:
    assert isinstance(part, ConvNormActivation)
    activation = getattr(part, "activation", None)
    return _activation(writer, name, activation, _layer(writer, name, part.conv, x, part.norm, activation))


def _layer(writer: TfliteWriter, name: str, layer: Any, x: Wire, norm: Any, activation: Any = None) -> Wire:
    weight, bias = layer.weight.detach(), layer.bias
    weight = weight if weight.dim() == 4 else weight[:, :, None, None]
    scale, shift = torch.ones(len(weight)), torch.zeros(len(weight)) if bias is None else bias.detach()
    if norm is not None:
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias.detach() - norm.running_mean * scale
    value = layer(x.value) if isinstance(layer, nn.Conv2d) else layer(x.value.flatten(1))[:, :, None, None]
    value = value if norm is None else norm(value)
    standalone = writer.form.in_pieces and norm is not None and writer.form.values == "float"
    x = _padded(writer, name, layer, x)
    folded = weight if standalone else weight * scale[:, None, None, None]
    kind, options, order = _kind(writer, layer)
    depthwise = kind == "DEPTHWISE_CONV_2D"
    stored = folded.permute(order).numpy() if kind != "FULLY_CONNECTED" else folded.flatten(1).numpy()
    per_channel = writer.form.values in ("int8", "dynamic") and kind != "FULLY_CONNECTED"
    index = writer.constant(f"{name}/weights", stored, axis=3 if depthwise else 0, per_channel=per_channel)
    own = torch.zeros_like(shift) if standalone else shift
    inputs = [x.index, index, writer.bias(f"{name}/bias", own.numpy(), x, index)]
    if type(activation) in FUSED and not writer.form.in_pieces:
        options.fusedActivationFunction = FUSED[type(activation)]
        value = activation(value.clone())
    out = writer.wire(f"{name}/out", value)
    writer.operator(kind, inputs, out.index, options)
    return _standalone(writer, name, out, scale, shift) if standalone else out


def _kind(writer: TfliteWriter, layer: Any) -> tuple[str, Any, tuple[int, ...]]:
    if isinstance(layer, nn.Linear) and writer.form.fully_connected:
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = False
        return "FULLY_CONNECTED", options, ()
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.dilationHFactor = options.dilationWFactor = 1
    options.strideH, options.strideW = layer.stride if isinstance(layer, nn.Conv2d) else (1, 1)
    options.padding = schema.Padding.VALID if _pads(layer) else schema.Padding.SAME
    if depthwise:
        options.depthMultiplier = 1
    return ("DEPTHWISE_CONV_2D", options, (1, 2, 3, 0)) if depthwise else ("CONV_2D", options, (0, 2, 3, 1))


def _pads(layer: Any) -> int:
    """Symmetric padding that SAME does not give: at stride 2."""
    plain = isinstance(layer, nn.Conv2d) and not isinstance(layer, SameConv2d)
    return int(layer.padding[0]) if plain and layer.stride[0] > 1 else 0


def _padded(writer: TfliteWriter, name: str, layer: Any, x: Wire) -> Wire:
    amount = _pads(layer)
    if not amount:
        return x
    padded = writer.wire(f"{name}/padded", nn.functional.pad(x.value, (amount,) * 4), like=x)
    pairs = _numbers(writer, [[0, 0], [amount, amount], [amount, amount], [0, 0]])
    writer.operator("PAD", [x.index, pairs], padded.index, schema.PadOptionsT())
    return padded


def _standalone(writer: TfliteWriter, name: str, x: Wire, scale: Tensor, shift: Tensor) -> Wire:
    scaled = writer.wire(f"{name}/scaled", x.value)
    factor = writer.constant(f"{name}/scale", scale.numpy())
    writer.operator("MUL", [x.index, factor], scaled.index, schema.MulOptionsT())
    shifted = writer.wire(f"{name}/shifted", x.value)
    summand = writer.constant(f"{name}/shift", shift.numpy())
    writer.operator("ADD", [scaled.index, summand], shifted.index, schema.AddOptionsT())
    return shifted


def _activation(writer: TfliteWriter, name: str, activation: Any, x: Wire) -> Wire:
    if activation is None or (type(activation) in FUSED and not writer.form.in_pieces):
        return x
    value = activation(x.value.clone())
    if type(activation) in FUSED:
        out = writer.wire(f"{name}/activated", value)
        writer.operator("RELU6" if isinstance(activation, nn.ReLU6) else "RELU", [x.index], out.index)
        return out
    if isinstance(activation, nn.Hardswish) and not writer.form.in_pieces:
        out = writer.wire(f"{name}/swished", value)
        writer.operator("HARD_SWISH", [x.index], out.index, schema.HardSwishOptionsT())
        return out
    gate = _hard_sigmoid(writer, name, x)
    return gate if isinstance(activation, nn.Hardsigmoid) else _times(writer, f"{name}/swished", x, gate)


def _hard_sigmoid(writer: TfliteWriter, name: str, x: Wire) -> Wire:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    moved = writer.wire(f"{name}/moved", nn.functional.relu6(x.value + 3))
    three = writer.constant(f"{name}/three", np.array([3.0]))
    writer.operator("ADD", [x.index, three], moved.index, options)
    gate = writer.wire(f"{name}/gate", moved.value / 6)
    sixth = writer.constant(f"{name}/sixth", np.array([1 / 6]))
    writer.operator("MUL", [moved.index, sixth], gate.index, schema.MulOptionsT())
    return gate


def _times(writer: TfliteWriter, name: str, left: Wire, right: Wire) -> Wire:
    out = writer.wire(name, left.value * right.value)
    writer.operator("MUL", [left.index, right.index], out.index, schema.MulOptionsT())
    return out


def _squeeze_excite(writer: TfliteWriter, name: str, part: Any, x: Wire) -> Wire:
    gate = _pool(writer, name, x)
    gate = _layer(writer, f"{name}/reduce", part.reduce, gate, None, part.activation)
    gate = _activation(writer, f"{name}/reduce", part.activation, gate)
    gate = _layer(writer, f"{name}/expand", part.expand, gate, None)
    return _times(writer, f"{name}/excited", x, _hard_sigmoid(writer, name, gate))


def _pool(writer: TfliteWriter, name: str, x: Wire) -> Wire:
    value = x.value.mean((2, 3), keepdim=True)
    if writer.form.average_pool:
        options = schema.Pool2DOptionsT()
        options.filterHeight, options.filterWidth = x.value.shape[2:]
        options.strideH = options.strideW = 1
        options.padding = schema.Padding.VALID
        out = writer.wire(f"{name}/pooled", value, like=x)
        writer.operator("AVERAGE_POOL_2D", [x.index], out.index, options)
        return out
    mean = schema.ReducerOptionsT()
    mean.keepDims = True
    out = writer.wire(f"{name}/mean", value)
    writer.operator("MEAN", [x.index, _numbers(writer, [1, 2])], out.index, mean)
    return out
