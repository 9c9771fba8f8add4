"""ONNX operators translated into the graph's vocabulary. Only loaded when the package `onnx` is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from mobilenets.auditing.graph.nodes import (
    Attention,
    Concat,
    Conv,
    Dropout,
    Linear,
    MatMul,
    Norm,
    Operator,
    Other,
    Pad,
    PoolOperation,
    Reshape,
    Slice,
    Softmax,
)
from mobilenets.auditing.graph.onnx_values import ARITHMETIC, FUNCTIONS, OnnxCall, attribute, elementwise

_LAYOUT = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", "CastLike", "Expand"}


def translate(call: OnnxCall) -> Operator:
    """What a node does, as one operator; `Other` when it is none of the known ones."""
    kind = call.node.op_type
    if kind in ARITHMETIC | FUNCTIONS:
        return elementwise(call)
    if kind in _LAYOUT:
        return Reshape()
    handler = _HANDLERS.get(kind)
    return handler(call) if handler is not None else Other(kind)


def _conv(call: OnnxCall) -> Operator:
    node = call.node
    quantized = node.op_type == "QLinearConv"
    weight = call.constant(3 if quantized else 1)
    if weight is None or weight.ndim != 4:
        return Other(node.op_type)
    groups = int(attribute(node, "group", 1))
    kernel, dilation = _pair(weight.shape[2:]), _pair(attribute(node, "dilations", (1, 1)))
    stride = _pair(attribute(node, "strides", (1, 1)))
    bias = call.constant(8 if quantized else 2) is not None and node.op_type != "ConvInteger"
    padding = _padding(call, kernel, stride, dilation)
    return Conv(weight.shape[1] * groups, weight.shape[0], kernel, stride, padding, dilation, groups, bias)


def _padding(
    call: OnnxCall, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Top, bottom, left, right; `auto_pad` is worked out from this input's size."""
    mode = attribute(call.node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        top, left, bottom, right = attribute(call.node, "pads", (0, 0, 0, 0))
        return (int(top), int(bottom), int(left), int(right))
    if mode == "VALID":
        return (0, 0, 0, 0)
    sides: list[int] = []
    for size, width, step, spread in zip(call.shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + spread * (width - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        sides += [small, large] if mode == "SAME_UPPER" else [large, small]
    return (sides[0], sides[1], sides[2], sides[3])


def _gemm(call: OnnxCall) -> Operator:
    weight = call.constant(1)
    if weight is None:
        return MatMul(prod(call.shapes[call.node.output[0]]) * call.shape[-1])
    out_features, in_features = weight.shape if attribute(call.node, "transB", 0) else weight.shape[::-1]
    return Linear(in_features, out_features, bias=call.constant(2) is not None)


def _matmul(call: OnnxCall) -> Operator:
    left, right = call.constant(0), call.constant(1)
    if right is not None and right.ndim == 2:
        return Linear(right.shape[0], right.shape[1], bias=False)
    if left is not None and left.ndim == 2:
        return Linear(left.shape[1], left.shape[0], bias=False)
    inner = call.shape[-1]
    return MatMul(prod(call.shapes[call.node.output[0]]) * inner)


def _einsum(call: OnnxCall) -> Operator:
    terms = attribute(call.node, "equation", "").replace(" ", "").partition("->")[0].split(",")
    if any("." in term for term in terms):
        return Other("Einsum")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, call.node.input, strict=True):
        sizes.update(zip(term, call.shapes.get(name) or call.constants[name].shape, strict=True))
    return MatMul(prod(sizes.values()))


def _batch_norm(call: OnnxCall) -> Operator:
    # ONNX weighs the old value, PyTorch the new one.
    momentum = attribute(call.node, "momentum")
    training = bool(attribute(call.node, "training_mode", 0))
    eps = float(attribute(call.node, "epsilon", 1e-5))
    rounded = None if momentum is None else round(1 - float(momentum), 6)
    return Norm("batch", call.shape[1], True, _shortened(eps), rounded, uses_batch=training)


def _other_norm(call: OnnxCall) -> Operator:
    kind = call.node.op_type.removesuffix("Normalization").lower()
    eps = _shortened(float(attribute(call.node, "epsilon", 1e-5)))
    channels = call.shape[-1] if kind == "layer" else call.shape[1]
    return Norm(kind, channels, call.constant(1) is not None, eps, None, uses_batch=False)


def _shortened(value: float) -> float:
    """A float32 of the file as the decimal it was written as: 0.001, not 0.0010000000474974513."""
    return float(np.format_float_positional(np.float32(value), unique=True, trim="-"))


def _global_pool(call: OnnxCall) -> Operator:
    window = _pair(call.shape[2:])
    kind = "max" if call.node.op_type == "GlobalMaxPool" else "average"
    return PoolOperation(kind, window, window, (0, 0, 0, 0), adaptive=True)


def _reduce(call: OnnxCall) -> Operator:
    rank = len(call.shape)
    axes = {axis % rank for axis in call.integers(1, "axes", range(rank))}
    places = (1, 2) if call.nhwc else tuple(range(2, rank))
    if rank not in (3, 4) or not axes <= set(places):
        return Other(call.node.op_type)
    window = [call.shape[axis] if axis in axes else 1 for axis in places] + [1] * (4 - rank)
    kind = "max" if call.node.op_type == "ReduceMax" else "average"
    return PoolOperation(kind, _pair(window), _pair(window), (0, 0, 0, 0), adaptive=True)


def _pool(call: OnnxCall) -> Operator:
    window = _pair(attribute(call.node, "kernel_shape"))
    stride = _pair(attribute(call.node, "strides", (1, 1)))
    padding = _padding(call, window, stride, _pair(attribute(call.node, "dilations", (1, 1))))
    kind = "max" if call.node.op_type == "MaxPool" else "average"
    return PoolOperation(kind, window, stride, padding, adaptive=False)


def _pad(call: OnnxCall) -> Operator:
    mode, pads, value = attribute(call.node, "mode", "constant"), call.integers(1, "pads"), call.constant(2)
    filler = attribute(call.node, "value", 0.0) if value is None or value.size == 0 else float(value.ravel()[0])
    if mode != "constant" or filler != 0 or len(pads) != 8:
        return Other(f"pad {mode}")
    before, after = pads[:4], pads[4:]
    channel, height, width = (3, 1, 2) if call.nhwc else (1, 2, 3)
    return Pad((before[height], after[height], before[width], after[width]), (before[channel], after[channel]))


def _slice(call: OnnxCall) -> Operator:
    if call.shapes[call.node.output[0]] == call.shape:
        return Reshape()
    rank = len(call.shape)
    starts = call.integers(1, "starts")
    axes = call.integers(3, "axes", range(len(starts)))
    strides = call.integers(4, "steps", [1] * len(starts))
    steps = [1] * rank
    for axis, step in zip(axes, strides, strict=True):
        steps[axis % rank] = step
    return Slice(tuple(steps))


def _dropout(call: OnnxCall) -> Operator:
    ratio, training = call.constant(1), call.constant(2)
    rate = float(attribute(call.node, "ratio", 0.5)) if ratio is None else float(ratio)
    return Dropout(round(rate, 6), active=training is not None and bool(training))


def _attention(call: OnnxCall) -> Operator:
    shapes = [call.shapes[name] for name in call.flowing[:3]]
    if len(shapes) < 3 or any(len(shape) != 4 for shape in shapes):
        return Other("Attention")
    query, key, value = shapes
    return Attention(prod(query[:3]) * key[-2] * (query[-1] + value[-1]))


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (int(values[0]), int(values[-1]))


Handler = Callable[[OnnxCall], Operator]
_HANDLERS: dict[str, Handler] = {
    "Conv": _conv,
    "QLinearConv": _conv,
    "ConvInteger": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Einsum": _einsum,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _other_norm,
    "GroupNormalization": _other_norm,
    "InstanceNormalization": _other_norm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce,
    "ReduceMax": _reduce,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "Pad": _pad,
    "Slice": _slice,
    "Split": lambda call: Slice((1,) * len(call.shape)),
    "Gather": lambda call: Slice((1,) * len(call.shape)),
    "Dropout": _dropout,
    "Softmax": lambda call: Softmax(int(attribute(call.node, "axis", -1))),
    "LogSoftmax": lambda call: Softmax(int(attribute(call.node, "axis", -1)), log=True),
    "Concat": lambda call: Concat(int(attribute(call.node, "axis", 1))),
    "Attention": _attention,
}
