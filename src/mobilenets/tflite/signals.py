"""`Layer`, a convolution or linear layer of a TensorFlow Lite file, and `Signal`, the elementwise functions behind it.

Files write the same activation in many ways: fused into the convolution, as an operator of its own, or in pieces
(h-swish as ADD 3, RELU6, MUL, MUL 1/6); batch norm likewise. So activations are recognised by their values: the pieces
are composed into one function, evaluated on numbers, and compared with the papers' functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import WeightsError
from mobilenets.tflite.model import TfliteTensor

Values = NDArray[np.float64]
Function = Callable[[Values], Values]

_PROBES = np.linspace(-10, 10, 161)[:, None]
# Constants of pieces may be rounded (0.16667 for 1/6) or quantized (3 as 2.98); h-swish and swish differ by 0.06.
_TOLERANCE = 0.03

FUNCTIONS: Mapping[str, Function] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
}
"""The elementwise functions of the MobileNet papers."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Anchor:
    """A point on the way from a layer's output x: there the value is `scale * x + shift`, `since` is what follows."""

    scale: Values
    shift: Values
    since: Function


@dataclass(frozen=True)
class Signal:
    """A tensor as a function of one source, all operators between being elementwise.

    Attributes:
        source: the layer's number, `INPUT`, or a number of its own for what mixes several.
        anchors: by tensor index, in order; the points up to which the function is a scale and a shift.
        linear: whether it still is one.
        pads: zeros put around it since, (top, bottom, left, right).
    """

    source: int
    anchors: Mapping[int, Anchor]
    linear: bool = True
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


def start(source: int, tensor: int) -> Signal:
    """The signal of a source's own output."""
    return Signal(source, {tensor: Anchor(np.ones(1), np.zeros(1), FUNCTIONS["identity"])})


def affine(signal: Signal, tensor: int, scale: Values, shift: Values) -> Signal:
    """`scale * signal + shift`, per channel or one for all, as the tensor of this index."""

    def step(x: Values) -> Values:
        return x * scale + shift

    passed = applied(signal, step)
    if not signal.linear:
        return passed
    last = list(signal.anchors.values())[-1]
    here = Anchor(last.scale * scale, last.shift * scale + shift, FUNCTIONS["identity"])
    return Signal(signal.source, {**passed.anchors, tensor: here}, linear=True, pads=signal.pads)


def applied(signal: Signal, function: Function) -> Signal:
    """`function(signal)`."""
    anchors = {
        index: Anchor(anchor.scale, anchor.shift, _composed(function, anchor.since))
        for index, anchor in signal.anchors.items()
    }
    return Signal(signal.source, anchors, linear=False, pads=signal.pads)


def product(left: Signal, right: Signal) -> Signal:
    """`left * right`, two functions of the same source."""
    shared = {index: anchor for index, anchor in left.anchors.items() if index in right.anchors}
    anchors = {
        index: Anchor(anchor.scale, anchor.shift, _multiplied(anchor.since, right.anchors[index].since))
        for index, anchor in shared.items()
    }
    return Signal(left.source, anchors, linear=False, pads=left.pads)


def recognised(signal: Signal) -> tuple[str, Values, Values]:
    """The signal as `function(scale * x + shift)`: the function's name in `FUNCTIONS`, or `UNKNOWN`; scale; shift."""
    for anchor in reversed(list(signal.anchors.values())):
        values = anchor.since(_PROBES)
        for name, function in FUNCTIONS.items():
            if np.abs(values - function(_PROBES)).max() <= _TOLERANCE:
                return name, anchor.scale, anchor.shift
        # TensorFlow's converter adds the 3 of x + 3 to the bias before: h-sigmoid of what was 3 less.
        if np.abs(values - FUNCTIONS["hard_sigmoid"](_PROBES - 3)).max() <= _TOLERANCE:
            return "hard_sigmoid", anchor.scale, anchor.shift - 3
    return UNKNOWN, np.ones(1), np.zeros(1)


def _composed(outer: Function, inner: Function) -> Function:
    return lambda x: outer(inner(x))


def _multiplied(left: Function, right: Function) -> Function:
    return lambda x: left(x) * right(x)


Pads = tuple[int, int, int, int]
"""Zeros around a map: top, bottom, left, right."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of the file.

    Attributes:
        name: the file's name of its weights, up to the first `;`.
        weight: float32 `[out, in / groups, kernel height, kernel width]`; a linear layer's kernel is 1x1.
        bias: float32 `[out]`, zeros where the file has none.
        stride: height and width.
        pads: zeros around its input in all, (top, bottom, left, right): its own and those of a PAD before it.
        input_size: height and width of its unpadded input; (1, 1) for a linear layer.
        depthwise: one filter a channel.
        activation: a key of `signals.FUNCTIONS`, or `unknown`.
        clamped: the output's quantized range starts at 0, which does a ReLU's work without one.
        shortcut: its output, without activation, is added to an earlier one.
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    pads: Pads
    input_size: tuple[int, int]
    depthwise: bool
    activation: str = "identity"
    clamped: bool = False
    shortcut: bool = False


def folded(layer: Layer, activation: str, scale: Values, shift: Values) -> Layer:
    """The layer with a batch norm behind it, `scale * x + shift`, folded in, and then the activation.

    Raises:
        WeightsError: the norm is of another number of channels.
    """
    outputs = len(layer.weight)
    if scale.size not in (1, outputs) or shift.size not in (1, outputs):
        raise WeightsError(f"layer {layer.name!r} has {outputs} outputs and is scaled by {max(scale.size, shift.size)}")
    if (scale == 1).all() and not shift.any():
        return replace(layer, activation=activation)
    weight = (layer.weight * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = (layer.bias * scale + shift).astype(np.float32)
    return replace(layer, activation=activation, weight=weight, bias=bias)


def channels_first(weight: NDArray[np.float32], kind: str, name: str) -> NDArray[np.float32]:
    """`[out, in / groups, height, width]` from the format's orders, which differ by operator.

    Raises:
        WeightsError: the weights have another number of dimensions.
    """
    wanted = 2 if kind == "FULLY_CONNECTED" else 4
    if weight.ndim != wanted:
        raise WeightsError(f"the weights of layer {name!r} have {weight.ndim} dimensions, not {wanted}: a damaged file")
    if kind == "FULLY_CONNECTED":
        return weight[:, :, None, None]
    return weight.transpose(3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else weight.transpose(0, 3, 1, 2)


def same_pads(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """What TensorFlow's SAME puts around a map: as `models.layers.same_padding`, which needs PyTorch to import."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2


def checked_stride(option: object) -> tuple[int, int]:
    """A convolution's option as height and width.

    Raises:
        WeightsError: it is not a pair.
    """
    if isinstance(option, tuple) and len(option) == 2:
        return option
    raise WeightsError(f"a convolution of the file has a stride of {option!r}: a damaged file")


def clamps(tensor: TfliteTensor) -> bool:
    """Whether the tensor's integers can't stand for anything below 0."""
    lowest = {"UINT8": 0, "INT8": -128, "INT16": -32768}.get(tensor.dtype)
    return tensor.quantization is not None and tensor.quantization.zero_points[0] == lowest
