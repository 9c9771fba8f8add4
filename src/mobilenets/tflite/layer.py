"""`Layer`: one convolution or linear layer of a TensorFlow Lite file, and what brings its parts into our form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import WeightsError
from mobilenets.tflite.model import TfliteTensor
from mobilenets.tflite.signals import Values

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
        WeightsError: it is none.
    """
    if isinstance(option, tuple) and len(option) == 2:
        return option
    raise WeightsError(f"a convolution of the file has no stride but {option!r}: a damaged file")


def clamps(tensor: TfliteTensor) -> bool:
    """Whether the tensor's integers can't stand for anything below 0."""
    lowest = {"UINT8": 0, "INT8": -128, "INT16": -32768}.get(tensor.dtype)
    return tensor.quantization is not None and tensor.quantization.zero_points[0] == lowest
