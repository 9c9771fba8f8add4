"""What a tensor of the graph is made of: a layer's output and the elementwise functions it has passed since.

Files write the same activation in many ways: fused into the convolution, as an operator of its own, or in pieces
(h-swish as ADD 3, RELU6, MUL, MUL 1/6); batch norm likewise. So activations are known by what they do: the pieces are
put together into one function, tried on numbers, and compared with the papers' functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        answer = anchor.since(_PROBES)
        for name, function in FUNCTIONS.items():
            if np.abs(answer - function(_PROBES)).max() <= _TOLERANCE:
                return name, anchor.scale, anchor.shift
        # TensorFlow's converter adds the 3 of x + 3 to the bias before: h-sigmoid of what was 3 less.
        if np.abs(answer - FUNCTIONS["hard_sigmoid"](_PROBES - 3)).max() <= _TOLERANCE:
            return "hard_sigmoid", anchor.scale, anchor.shift - 3
    return UNKNOWN, np.ones(1), np.zeros(1)


def _composed(outer: Function, inner: Function) -> Function:
    return lambda x: outer(inner(x))


def _multiplied(left: Function, right: Function) -> Function:
    return lambda x: left(x) * right(x)
