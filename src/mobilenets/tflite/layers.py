"""The layers of a TensorFlow Lite classifier in execution order, whichever converter wrote it.

Convolutions and linear layers with their real-number weights channels first, their whole padding, and the activation
behind them; standalone batch norm is folded in. This is what a network of the same layers needs to load its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import WeightsError, first_line
from mobilenets.tflite.model import TfliteModel, TfliteOperator, dequantized
from mobilenets.tflite.signals import (
    FUNCTIONS,
    Function,
    Layer,
    Signal,
    Values,
    affine,
    applied,
    channels_first,
    checked_stride,
    clamps,
    folded,
    product,
    recognised,
    same_pads,
    start,
)

INPUT: Final = -1
"""The source of what comes from the graph's input."""

_LAYERS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_KEPT: Final = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "CAST", "EXPAND_DIMS")
"""Operators that leave every value and the order of channels as they are."""
_ELEMENTWISE: Final[Mapping[str, Function]] = {
    "RELU": FUNCTIONS["relu"],
    "RELU6": FUNCTIONS["relu6"],
    "HARD_SWISH": FUNCTIONS["hard_swish"],
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "TANH": np.tanh,
}
_CONTRADICTIONS: Final = (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError)
"""What following a damaged graph raises: too few tensors, shapes that do not fit their operator."""
_ARITHMETIC: Final = ("ADD", "SUB", "MUL", "DIV")
_SHORTCUT_SUM: Final = "ADD"


@dataclass(frozen=True)
class Layers:
    """The layers in order, and the scale and shift between the graph's input and the first, one value a channel."""

    layers: tuple[Layer, ...]
    input_scale: tuple[float, ...]
    input_shift: tuple[float, ...]


def read_layers(model: TfliteModel) -> Layers:
    """Follow the graph from its input and collect the layers.

    Raises:
        WeightsError: the graph has several inputs, a custom operator, or a layer whose weights are computed.
    """
    if len(model.inputs) != 1:
        raise WeightsError(f"the file's graph has {len(model.inputs)} inputs, and a classifier takes one image")
    try:
        walk = _Walk(model)
        for operator in model.operators:
            walk.step(operator)
        walk.finish(model.outputs)
    except _CONTRADICTIONS as error:
        raise WeightsError(f"the file's graph contradicts itself ({first_line(error)}): download it again") from error
    if not walk.layers:
        raise WeightsError("the file's graph has no layer with weights: it is no classifier")
    return Layers(tuple(walk.layers), walk.input_scale, walk.input_shift)


class _Walk:
    """The state of one pass over the operators."""

    def __init__(self, model: TfliteModel) -> None:
        self.tensors = model.tensors
        self.layers: list[Layer] = []
        self.input_scale: tuple[float, ...] = (1.0,)
        self.input_shift: tuple[float, ...] = (0.0,)
        self._constants = {tensor.index: dequantized(tensor) for tensor in model.tensors if tensor.data is not None}
        self._names = {tensor.index: tensor.name for tensor in model.tensors}
        self._signals = {model.inputs[0]: start(INPUT, model.inputs[0])}
        self._fresh = INPUT
        self._finished: set[int] = set()

    def finish(self, outputs: tuple[int, ...]) -> None:
        """Finish the layers of the graph's outputs, which nothing follows."""
        self._finish_sources(outputs)

    def step(self, operator: TfliteOperator) -> None:
        """Record one operator's output."""
        if operator.kind.startswith("CUSTOM:"):
            raise WeightsError(f"the file has the custom operator {operator.kind[7:]!r}, which no MobileNet needs")
        if not operator.inputs or not operator.outputs:
            return
        first, output = operator.inputs[0], operator.outputs[0]
        if operator.kind in _LAYERS:
            self._signals[output] = self._fused(self._layer(operator), operator)
        elif operator.kind in _KEPT:
            self._keep(first, output)
        elif operator.kind in _ELEMENTWISE and first in self._signals:
            self._signals[output] = applied(self._signals[first], _ELEMENTWISE[operator.kind])
        elif operator.kind in ("PAD", "PADV2") and first in self._signals:
            self._signals[output] = self._padded(operator)
        elif operator.kind in _ARITHMETIC:
            self._signals[output] = self._fused(self._arithmetic(operator), operator)
        else:
            self._finish_sources(operator.inputs)
            self._signals[output] = self._mixed(output)

    def _keep(self, first: int, output: int) -> None:
        if first in self._constants:  # weights stored as float16 pass a DEQUANTIZE first
            self._constants[output] = self._constants[first].reshape(self.tensors[output].shape)
            self._names[output] = self._names[first]
        elif first in self._signals:
            self._signals[output] = self._signals[first]

    def _layer(self, operator: TfliteOperator) -> Signal:
        source, weights, bias = (*operator.inputs, -1)[:3]
        self._finish_sources((source,))
        name = self._names.get(weights, "").partition(";")[0]
        if weights not in self._constants:
            raise WeightsError(f"the weights of {operator.kind} {name!r} are computed, not stored: no trained network")
        if operator.options.get("dilation", (1, 1)) != (1, 1) or operator.options.get("shuffled", False):
            raise WeightsError(f"layer {name!r} is dilated or stores its weights shuffled: no MobileNet of the papers")
        weight = channels_first(self._constants[weights], operator.kind, name)
        biases = self._bias(bias, source, weights, len(weight), name)
        if biases.shape != (len(weight),):
            raise WeightsError(f"layer {name!r} has {len(weight)} outputs and {biases.size} biases: a damaged file")
        if not (np.isfinite(weight).all() and np.isfinite(biases).all()):
            raise WeightsError(
                f"layer {name!r} has NaN or infinity in its weights: a damaged file, or training that failed"
            )
        linear = operator.kind == "FULLY_CONNECTED"
        shape = self.tensors[source].shape
        size = (1, 1) if linear or len(shape) != 4 else (shape[1], shape[2])
        stride = (1, 1) if linear else checked_stride(operator.options["stride"])
        kernel = (weight.shape[2], weight.shape[3])
        given = self._signals[source].pads if source in self._signals else (0, 0, 0, 0)
        own = same_pads(size, kernel, stride) if operator.options.get("padding") == "SAME" else (0, 0, 0, 0)
        self.layers.append(
            Layer(
                name,
                weight,
                biases,
                stride,
                (own[0] + given[0], own[1] + given[1], own[2] + given[2], own[3] + given[3]),
                (size[0] - given[0] - given[1], size[1] - given[2] - given[3]),
                operator.kind == "DEPTHWISE_CONV_2D",
                clamped=clamps(self.tensors[operator.outputs[0]]),
            )
        )
        return start(len(self.layers) - 1, operator.outputs[0])

    def _bias(self, bias: int, source: int, weights: int, outputs: int, name: str) -> NDArray[np.float32]:
        if bias < 0:
            return np.zeros(outputs, np.float32)
        if bias not in self._constants:
            raise WeightsError(f"the bias of layer {name!r} is computed, not stored: no trained network")
        tensor = self.tensors[bias]
        given, weight = self.tensors[source].quantization, self.tensors[weights].quantization
        if tensor.dtype in ("INT32", "INT64") and tensor.quantization is None and given and weight:
            # Some converters leave out what follows from the rest: accumulators count in input times weight scales.
            scaled = self._constants[bias].astype(np.float64) * given.scales[0] * np.array(weight.scales)
            return np.asarray(scaled, dtype=np.float32)
        return self._constants[bias].reshape(-1)

    def _arithmetic(self, operator: TfliteOperator) -> Signal:
        kind, (left, right), output = operator.kind, operator.inputs[:2], operator.outputs[0]
        one, other = self._signals.get(left), self._signals.get(right)
        if one is not None and right in self._constants:
            scale, shift = _as_affine(kind, self._constants[right].astype(np.float64))
            return self._scaled(one, output, scale, shift)
        if other is not None and left in self._constants and kind != "DIV":
            constant = self._constants[left].astype(np.float64)
            scale, shift = (-np.ones(1), constant) if kind == "SUB" else _as_affine(kind, constant)
            return self._scaled(other, output, scale, shift)
        if one is not None and other is not None and one.source == other.source and kind == "MUL":
            return product(one, other)
        self._finish_sources(operator.inputs)
        if kind == _SHORTCUT_SUM:
            self._mark_shortcut((one, other))
        return self._mixed(output)

    def _scaled(self, signal: Signal, output: int, scale: Values, shift: Values) -> Signal:
        whole_map = any(values.size > 1 and values.size != values.shape[-1] for values in (scale, shift))
        if whole_map or (any(signal.pads) and shift.any()):
            return self._mixed(output)  # no batch norm; and a shift of padding is no padding with zeros
        return affine(signal, output, scale.reshape(-1), shift.reshape(-1))

    def _padded(self, operator: TfliteOperator) -> Signal:
        signal = self._signals[operator.inputs[0]]
        amounts = self._constants.get(operator.inputs[1])
        zeros = all(not self._constants[index].any() for index in operator.inputs[2:] if index in self._constants)
        if amounts is None or amounts.shape != (4, 2) or amounts[[0, 3]].any() or not zeros:
            return self._mixed(operator.outputs[0])
        top, bottom, left, right = (int(amount) for amount in amounts[1:3].reshape(-1))
        before = signal.pads
        return replace(signal, pads=(top + before[0], bottom + before[1], left + before[2], right + before[3]))

    def _fused(self, signal: Signal, operator: TfliteOperator) -> Signal:
        activation = str(operator.options.get("activation", "NONE"))
        if activation == "NONE":
            return signal
        return applied(signal, _ELEMENTWISE.get(activation, lambda x: np.full_like(x, np.nan)))

    def _mixed(self, output: int) -> Signal:
        """A source of its own: what this tensor is made of is not one layer's output alone."""
        self._fresh -= 1
        return start(self._fresh, output)

    def _finish_sources(self, inputs: tuple[int, ...]) -> None:
        """The signals' sources are complete: note the activation, fold a batch norm between layer and activation."""
        for signal in (self._signals[index] for index in inputs if index in self._signals):
            if signal.source in self._finished or signal.source < INPUT:
                continue
            self._finished.add(signal.source)
            activation, scale, shift = recognised(signal)
            if signal.source == INPUT:
                self._finish_input(activation, scale, shift)
            else:
                self.layers[signal.source] = folded(self.layers[signal.source], activation, scale, shift)

    def _finish_input(self, activation: str, scale: Values, shift: Values) -> None:
        if activation != "identity":
            raise WeightsError("the image passes more than a scale and a shift before the file's first layer")
        self.input_scale, self.input_shift = tuple(map(float, scale)), tuple(map(float, shift))

    def _mark_shortcut(self, operands: tuple[Signal | None, ...]) -> None:
        # The later of two layers is the block's own; the other is the block's input.
        latest = max((signal.source for signal in operands if signal is not None), default=INPUT)
        if latest >= 0:
            self.layers[latest] = replace(self.layers[latest], shortcut=True)


def _as_affine(kind: str, constant: Values) -> tuple[Values, Values]:
    """Scale and shift of `x kind constant`."""
    one, zero = np.ones(1), np.zeros(1)
    if kind in ("ADD", "SUB"):
        return one, constant if kind == "ADD" else -constant
    return constant if kind == "MUL" else 1 / constant, zero
