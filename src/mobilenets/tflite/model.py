"""`TfliteModel`: the contents of a TensorFlow Lite file, as plain records of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import WeightsError

Array = NDArray[Any]
Option = str | int | float | bool | tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """How stored integers stand for real numbers: `real = (stored - zero_point) * scale`.

    One scale and zero point for the whole tensor, or one for each index along `axis`.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int

    @property
    def per_channel(self) -> bool:
        """Whether the channels have scales of their own."""
        return len(self.scales) > 1


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor of the graph: `shape` channels last, `dtype` by the format's name (`UINT8`, `FLOAT32`, ...).

    `data` is what the file stores, not dequantized; None for what is computed when the network runs.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    data: Array | None = field(compare=False, repr=False)


@dataclass(frozen=True)
class TfliteOperator:
    """An operator: its kind by the format's name (`CONV_2D`), tensors by index (-1 for one left out), options.

    A custom operator's kind is `CUSTOM:` and its name.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option]


@dataclass(frozen=True)
class Normalization:
    """Pixel normalization in the metadata: `(pixel - mean) / std`, pixels from 0 to 255; one value or one a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TfliteModel:
    """The graph of a file: operators in the order they run, and what the metadata adds.

    Attributes:
        description: free text of the program that wrote it.
        tensors: by index.
        operators: in execution order.
        inputs: indices of the tensors the graph is given.
        outputs: indices of those it returns.
        metadata: names of the metadata buffers.
        labels: names of the outputs, from the label file inside; None without one.
        normalization: of the input image; None when the metadata does not state it.
    """

    description: str
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: tuple[str, ...]
    labels: tuple[str, ...] | None
    normalization: Normalization | None


def dequantized(tensor: TfliteTensor) -> NDArray[np.float32]:
    """The real numbers a constant tensor stands for, in its own shape, float32.

    Raises:
        WeightsError: the tensor has no data, or scales that don't fit its shape.
    """
    if tensor.data is None:
        raise WeightsError(f"tensor {tensor.name!r} holds no weights: they are computed when the network runs")
    quantization = tensor.quantization
    if quantization is None or tensor.dtype.startswith("FLOAT"):
        return tensor.data.astype(np.float32)
    scales, zero_points = np.array(quantization.scales), np.array(quantization.zero_points)
    if quantization.per_channel:
        if not 0 <= quantization.axis < len(tensor.shape) or tensor.shape[quantization.axis] != len(scales):
            raise WeightsError(
                f"tensor {tensor.name!r} has {len(scales)} scales along axis {quantization.axis} of {tensor.shape}: "
                "the file is damaged"
            )
        along = [1] * len(tensor.shape)
        along[quantization.axis] = len(scales)
        scales, zero_points = scales.reshape(along), zero_points.reshape(along)
    # In float64, where whole numbers are exact; the one rounding is the last.
    return np.asarray((tensor.data.astype(np.float64) - zero_points) * scales, dtype=np.float32)
