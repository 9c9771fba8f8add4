"""Elementwise ONNX operators as functions of one tensor, run by the reference implementation that comes with ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from mobilenets.auditing.graph.nodes import Add, ChannelScale, Multiply, Norm, Operator, Other, Pointwise, Values

# One node of an ONNX file with what is known of its values.


# Which inputs of an operator are weights; of any other, none.
_WEIGHTS: dict[str, slice] = {
    "Conv": slice(1, 3),
    "Gemm": slice(1, 3),
    "BatchNormalization": slice(1, 3),
    "LayerNormalization": slice(1, 3),
    "GroupNormalization": slice(1, 3),
    "InstanceNormalization": slice(1, 3),
    "PRelu": slice(1, 2),
    "MatMul": slice(0, 2),
    "Einsum": slice(0, None),
    "ConvInteger": slice(1, 2),
    "MatMulInteger": slice(1, 2),
}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value, or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


@dataclass(frozen=True)
class OnnxCall:
    """One node with what is known of its values.

    Attributes:
        node: as the file has it.
        flowing: its inputs that depend on the images, by name.
        constants: the others, by name and value.
        shapes: of the flowing inputs and of the outputs, as the file has them.
        nhwc: its first flowing input has channels last.
        opset: version of the file's standard operators; `Clip` had attributes before it had inputs.
        before_stem: no convolution came yet, so a scale per channel prepares the images.
    """

    node: NodeProto
    flowing: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]]
    shapes: Mapping[str, tuple[int, ...]]
    nhwc: bool
    opset: int
    before_stem: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first flowing input."""
        return self.shapes[self.flowing[0]]

    def constant(self, position: int) -> NDArray[Any] | None:
        """The value of the input at a position; None when it is absent or flows."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        return self.constants.get(name)

    def integers(self, position: int, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list that older operator sets have as attribute and newer ones as input."""
        value = self.constant(position)
        return [int(item) for item in (attribute(self.node, name, default) if value is None else value.ravel())]

    def weight_inputs(self, operator: Operator) -> list[str]:
        """Names of the inputs that are parameters."""
        if self.node.op_type == "QLinearConv":
            names = [self.node.input[3], *self.node.input[8:9]]
        elif isinstance(operator, ChannelScale):
            names = list(self.constants)
        else:
            names = list(self.node.input[_WEIGHTS.get(self.node.op_type, slice(0, 0))])
        return [name for name in names if name in self.constants]


ARITHMETIC = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "Where",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
}
FUNCTIONS = {
    "Relu",
    "Clip",
    "HardSwish",
    "HardSigmoid",
    "Sigmoid",
    "Tanh",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "Softplus",
    "Softsign",
    "Mish",
    "Gelu",
    "Swish",
    "ThresholdedRelu",
    "Neg",
    "Abs",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Erf",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Not",
}
# Since this opset `Clip` has its bounds as inputs.
_CLIP_BY_INPUTS = 11


def keeps_layout(node: NodeProto) -> bool:
    """Whether the result has the order of dimensions its input has."""
    return node.op_type in ARITHMETIC | FUNCTIONS | {"Cast", "CastLike", "Dropout", "Identity"}


def elementwise(call: OnnxCall) -> Operator:
    """A function of one tensor, a sum or product of two, or a constant per channel; else `Other`."""
    kind = call.node.op_type
    if len(call.flowing) == 2 and kind in ("Add", "Mul"):
        return Add() if kind == "Add" else Multiply()
    if len(call.flowing) == 1 and (kind == "PRelu" or all(value.size == 1 for value in call.constants.values())):
        return Pointwise(kind, _function(call))
    if len(call.flowing) == 1 and len(call.constants) == 1 and kind in ("Add", "Sub", "Mul", "Div"):
        return _per_channel(call, shift=kind in ("Add", "Sub"))
    return Other(kind)


def _function(call: OnnxCall) -> Callable[[Values], Values]:
    """The node run for real, by the reference implementation that comes with ONNX, in float64."""
    if call.node.op_type == "Clip" and call.opset < _CLIP_BY_INPUTS:
        # The reference implementation runs such an old node as a new one, without its bounds.
        low, high = attribute(call.node, "min", -np.inf), attribute(call.node, "max", np.inf)
        return lambda values: np.asarray(np.clip(values, low, high), dtype=np.float64)

    def on_values(values: Values) -> Values:
        feeds: dict[str, Any] = {call.flowing[0]: values}
        for name, value in call.constants.items():
            # PRelu has a slope per channel; their mean stands for all.
            scalar = value.mean() if value.size > 1 else value.reshape(())[()]
            feeds[name] = np.array(scalar, dtype=value.dtype if value.dtype == bool else np.float64)
        evaluator = ReferenceEvaluator(_alone(call, feeds))
        return np.asarray(next(iter(evaluator.run(None, feeds))), dtype=np.float64)

    return on_values


def _alone(call: OnnxCall, feeds: Mapping[str, Any]) -> ModelProto:
    """The node as a model: one whose operator is defined by others (Gelu) runs in a model only."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None)
        for name, value in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(call.node.output[0], TensorProto.DOUBLE, None)]
    graph = helper.make_graph([call.node], "alone", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", call.opset)])


def _per_channel(call: OnnxCall, shift: bool) -> Operator:
    constant = next(iter(call.constants.values()))
    axis = len(call.shape) - 1 if call.nhwc or len(call.shape) < 3 else 1
    aligned = (1,) * (len(call.shape) - constant.ndim) + constant.shape
    channels = call.shape[axis]
    if len(aligned) != len(call.shape) or aligned[axis] != channels or prod(aligned) != channels:
        return Other(call.node.op_type)
    if call.before_stem:
        return Norm("affine", channels, affine=False, eps=0.0, momentum=None, uses_batch=False)
    return ChannelScale(channels, shift)
