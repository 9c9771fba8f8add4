"""A TensorFlow Lite file as a graph, float or quantized: how numbers are stored is seen through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilenets.auditing.graph.nodes import (
    Add,
    ChannelScale,
    Concat,
    Conv,
    Graph,
    Linear,
    Multiply,
    Node,
    Norm,
    Operator,
    Other,
    Pad,
    Pointwise,
    PoolOperation,
    Reshape,
    Slice,
    Softmax,
    Values,
    merged_affine,
    without_dead,
)
from mobilenets.auditing.graph.sandbox import place_of_answer
from mobilenets.errors import AuditError, MissingExtraError, first_line
from mobilenets.install import install_line

if TYPE_CHECKING:
    from mobilenets.tflite.model import TfliteModel, TfliteOperator, TfliteTensor

INPUT = "input"
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError)
_SEEN_THROUGH = {"QUANTIZE", "DEQUANTIZE"}
_LAYOUT = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "CAST"}
_PARTS = {"SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "GATHER"}
_FUNCTIONS: dict[str, Callable[[Values], Values]] = {
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "TANH": np.tanh,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "NEG": np.negative,
    "ABS": np.abs,
    "SQRT": np.sqrt,
    "EXP": np.exp,
}
_ARITHMETIC: dict[str, Callable[[Values, Values], Values]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum,
}


def tflite_graph(path: Path) -> Graph:
    """Read a TensorFlow Lite file of one network.

    A fused activation is a node of its own behind its operator, with its path. Paths are names of output tensors.

    Raises:
        WeightsError: no such file, or a damaged one.
        AuditError: its input is no image.
        MissingExtraError: the package `tflite` is not installed.
    """
    if find_spec("tflite") is None:
        raise MissingExtraError(f"reading TensorFlow Lite files needs tflite: {install_line('train')}")
    from mobilenets.tflite.reader import read_model

    model = read_model(path)
    shape = model.tensors[model.inputs[0]].shape if model.inputs else ()
    if len(shape) != 4:
        raise AuditError(f"{path} takes {list(shape)}, no images [B, H, W, C]: it is no image classifier")
    try:
        return _Reader(model).graph()
    except _DAMAGE as error:  # operators that each are well formed, but not of each other
        raise AuditError(f"{path} can't be read as a network: {first_line(error)}; fetch it again") from error


class _Reader:
    def __init__(self, model: TfliteModel) -> None:
        self._model = model
        self._makers: dict[int, str] = {model.inputs[0]: INPUT}
        # A constant that is another one dequantized (float16 files): where the numbers are stored.
        self._stored: dict[int, int] = {}
        self._read: set[int] = set()
        self._nodes: list[Node] = []
        self._names = {INPUT}

    def graph(self) -> Graph:
        """All operators that the answer depends on."""
        for operator in self._model.operators:
            self._take(operator)
        answer = self._answer()
        shape = self._shape(self._model.inputs[0])
        return Graph(
            nodes=merged_affine(without_dead(tuple(self._nodes), answer), answer),
            input=INPUT,
            input_shape=(shape[0], shape[1], shape[2], shape[3]),
            output=answer,
            parameters=sum(prod(self._model.tensors[index].shape) for index in self._read),
            unused=(),
            front_end="TensorFlow Lite",
            notes=(),
        )

    def _answer(self) -> str:
        """Name of the node whose value is the answer; the input's where no output depends on it."""
        indices = [index for index in self._model.outputs if index in self._makers]
        if not indices:
            return INPUT
        outputs = [(self._makers[index], self._shape(index)) for index in indices]
        return outputs[place_of_answer(outputs, self._nodes)][0]

    def _take(self, operator: TfliteOperator) -> None:
        flowing = [index for index in operator.inputs if index in self._makers]
        if not flowing or operator.kind == "SHAPE":
            if operator.kind in _SEEN_THROUGH:
                self._stored[operator.outputs[0]] = self._stored.get(operator.inputs[0], operator.inputs[0])
            return
        if operator.kind in _SEEN_THROUGH:
            self._makers[operator.outputs[0]] = self._makers[flowing[0]]
            return
        inputs = tuple(self._makers[index] for index in flowing)
        for number, output in enumerate(operator.outputs):
            translated = self._translate(operator, flowing)
            parameters = self._take_parameters(operator, translated) if number == 0 else 0
            name = self._append(translated, inputs, output, parameters)
            activation = str(operator.options.get("activation", "NONE"))
            if activation != "NONE":
                name = self._append(_fused(activation), (name,), output, 0)
            self._makers[output] = name

    def _append(self, operator: Operator, inputs: tuple[str, ...], output: int, parameters: int) -> str:
        path = self._model.tensors[output].name.partition(";")[0]
        name, count = path, 0
        while name in self._names:
            count += 1
            name = f"{path}:{count}"
        self._names.add(name)
        self._nodes.append(Node(name, operator, inputs, self._shape(output), path, parameters))
        return name

    def _take_parameters(self, operator: TfliteOperator, translated: Operator) -> int:
        """Elements of the weights an operator is the first to read; shapes, axes and paddings are none."""
        if not isinstance(translated, (Conv, Linear, ChannelScale)):
            return 0
        constants = [index for index in operator.inputs if index >= 0 and index not in self._makers]
        new = {self._stored.get(index, index) for index in constants} - self._read
        self._read |= new
        return sum(prod(self._model.tensors[index].shape) for index in new)

    def _translate(self, operator: TfliteOperator, flowing: list[int]) -> Operator:
        kind, shape = operator.kind, self._shape(flowing[0])
        if kind in _FUNCTIONS:
            return Pointwise(kind, _FUNCTIONS[kind])
        if kind in _ARITHMETIC:
            return self._arithmetic(operator, flowing)
        if kind in _LAYOUT:
            return Reshape()
        if kind in _PARTS:
            return Slice((1,) * len(shape))
        handlers = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "FULLY_CONNECTED": self._linear,
            "AVERAGE_POOL_2D": self._pool,
            "MAX_POOL_2D": self._pool,
            "MEAN": self._reduce,
            "REDUCE_MAX": self._reduce,
            "PAD": self._pad,
            "SOFTMAX": lambda operator, shape: Softmax(len(shape) - 1),
            "LOG_SOFTMAX": lambda operator, shape: Softmax(len(shape) - 1, log=True),
            "CONCATENATION": self._concat,
        }
        return handlers[kind](operator, shape) if kind in handlers else Other(kind)

    def _conv(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        weight = self._constant(operator, 1)
        if weight is None:
            return Other(operator.kind)
        kernel = (weight.shape[1], weight.shape[2])
        depthwise = operator.kind == "DEPTHWISE_CONV_2D"
        # Weights are [out, k, k, in / groups]; of a depthwise convolution [1, k, k, out].
        out_channels = weight.shape[3] if depthwise else weight.shape[0]
        groups = shape[1] if depthwise else shape[1] // weight.shape[3]
        stride, dilation = _two(operator, "stride", (1, 1)), _two(operator, "dilation", (1, 1))
        padding = _padding(str(operator.options.get("padding")), shape, kernel, stride, dilation)
        bias = self._constant(operator, 2) is not None
        return Conv(shape[1], out_channels, kernel, stride, padding, dilation, groups, bias)

    def _linear(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        weight = self._constant(operator, 1)
        if weight is None:
            return Other(operator.kind)
        return Linear(weight.shape[1], weight.shape[0], bias=self._constant(operator, 2) is not None)

    def _pool(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        window, stride = _two(operator, "filter", (1, 1)), _two(operator, "stride", (1, 1))
        padding = _padding(str(operator.options.get("padding")), shape, window, stride, (1, 1))
        kind = "average" if operator.kind == "AVERAGE_POOL_2D" else "max"
        return PoolOperation(kind, window, stride, padding, adaptive=False)

    def _reduce(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        axes = self._constant(operator, 1)
        if axes is None or axes.data is None or len(shape) != 4:
            return Other(operator.kind)
        reduced = {int(axis) % 4 for axis in axes.data.ravel()}
        if not reduced <= {1, 2}:
            return Other(operator.kind)
        window = (shape[2] if 1 in reduced else 1, shape[3] if 2 in reduced else 1)
        return PoolOperation(
            "average" if operator.kind == "MEAN" else "max", window, window, (0, 0, 0, 0), adaptive=True
        )

    def _pad(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        amounts = self._constant(operator, 1)
        if amounts is None or amounts.data is None or amounts.data.size != 8:
            return Other(operator.kind)
        _, height, width, channels = (tuple(int(item) for item in row) for row in amounts.data.reshape(4, 2))
        return Pad((*height, *width), (channels[0], channels[1]))  # type: ignore[arg-type]

    def _concat(self, operator: TfliteOperator, shape: tuple[int, ...]) -> Operator:
        axis = operator.options.get("axis", 3)
        assert isinstance(axis, int)
        return Concat({0: 0, 1: 2, 2: 3, 3: 1}[axis % 4] if len(shape) == 4 else axis)

    def _arithmetic(self, operator: TfliteOperator, flowing: list[int]) -> Operator:
        if len(flowing) == 2:
            return self._of_two(operator.kind)
        from mobilenets.tflite.model import dequantized

        position = 1 if operator.inputs[0] == flowing[0] else 0
        constant = self._constant(operator, position)
        if constant is None or constant.data is None:
            return Other(operator.kind)
        channels = self._shape(flowing[0])[1]
        if constant.data.size == 1:
            number = dequantized(constant).astype(np.float64).ravel()[0]
            function = _ARITHMETIC[operator.kind]
            return Pointwise(operator.kind, lambda x: function(x, number) if position else function(number, x))
        if constant.data.size != channels or (constant.shape and constant.shape[-1] != channels):
            return Other(operator.kind)
        if not any(isinstance(node.operator, Conv) for node in self._nodes):
            return Norm("affine", channels, affine=False, eps=0.0, momentum=None, uses_batch=False)
        return ChannelScale(channels, shift=operator.kind in ("ADD", "SUB"))

    def _of_two(self, kind: str) -> Operator:
        if kind == "ADD":
            return Add()
        return Multiply() if kind == "MUL" else Other(kind)

    def _constant(self, operator: TfliteOperator, position: int) -> TfliteTensor | None:
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        if index < 0 or index in self._makers:
            return None
        stored = self._model.tensors[self._stored.get(index, index)]
        return replace(stored, shape=self._model.tensors[index].shape)

    def _shape(self, index: int) -> tuple[int, ...]:
        shape = self._model.tensors[index].shape
        return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def _fused(activation: str) -> Operator:
    return Pointwise(activation, _FUNCTIONS[activation]) if activation in _FUNCTIONS else Other(activation)


def _two(operator: TfliteOperator, name: str, default: tuple[int, int]) -> tuple[int, int]:
    value = operator.options.get(name, default)
    assert isinstance(value, tuple)
    return (value[0], value[1])


def _padding(
    mode: str, shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Zeros at top, bottom, left, right; SAME puts the odd one at the end."""
    if mode != "SAME":
        return (0, 0, 0, 0)
    top, bottom, left, right = _same(shape, kernel, stride, dilation)
    return (top, bottom, left, right)


def _same(
    shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[int]:
    for size, width, step, spread in zip(shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + spread * (width - 1) + 1 - size, 0)
        yield total // 2
        yield total - total // 2
