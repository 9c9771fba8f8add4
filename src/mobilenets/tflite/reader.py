"""`read_model`: a TensorFlow Lite file into records, with every offset and length checked against the file.

The generated flatbuffer classes do not check the file, and a damaged one makes them read anywhere. So lengths are
checked before they are used, and what still goes wrong while decoding means a damaged file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import tflite
from numpy.typing import NDArray

from mobilenets.errors import WeightsError, first_line
from mobilenets.limits import MAX_MODEL_BYTES, read_bytes
from mobilenets.tflite.metadata import BUFFER, read_metadata
from mobilenets.tflite.model import Array, Option, Quantization, TfliteModel, TfliteOperator, TfliteTensor

IDENTIFIER: Final = b"TFL3"
_DTYPES: Final = {value: name for name, value in vars(tflite.TensorType).items() if isinstance(value, int)}
_KINDS: Final = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
_MAX_SCALE: Final = 1e20
"""No trained network comes near; times any 8-bit or 32-bit number it still is a float32."""
_NUMPY: Final = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "i1",
    "UINT8": "u1",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "BOOL": "?",
}
_DAMAGE: Final = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError)
"""What decoding a damaged flatbuffer raises: an offset beyond the file, an unknown code, a table that is missing."""


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_ACTIVATIONS = _names(tflite.ActivationFunctionType)
_PADDINGS = _names(tflite.Padding)


def _activation(table: Any) -> Option:
    return _ACTIVATIONS[table.FusedActivationFunction()]


def _padding(table: Any) -> Option:
    return _PADDINGS[table.Padding()]


def _stride(table: Any) -> Option:
    return table.StrideH(), table.StrideW()


def _dilation(table: Any) -> Option:
    return table.DilationHFactor(), table.DilationWFactor()


Readers = dict[str, Callable[[Any], Option]]

_FUSED: Readers = {"activation": _activation}
_WINDOW: Readers = {"padding": _padding, "stride": _stride, **_FUSED}
_CONVOLUTION: Readers = {**_WINDOW, "dilation": _dilation}
_POOL: Readers = {**_WINDOW, "filter": lambda table: (table.FilterHeight(), table.FilterWidth())}

_TABLES: dict[str, tuple[Callable[[], Any], Readers]] = {
    "CONV_2D": (tflite.Conv2DOptions, _CONVOLUTION),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        {**_CONVOLUTION, "depth_multiplier": lambda table: table.DepthMultiplier()},
    ),
    "FULLY_CONNECTED": (
        tflite.FullyConnectedOptions,
        {
            **_FUSED,
            "keep_num_dims": lambda table: table.KeepNumDims(),
            "shuffled": lambda table: table.WeightsFormat() != 0,
        },
    ),
    "AVERAGE_POOL_2D": (tflite.Pool2DOptions, _POOL),
    "MAX_POOL_2D": (tflite.Pool2DOptions, _POOL),
    "ADD": (tflite.AddOptions, _FUSED),
    "SUB": (tflite.SubOptions, _FUSED),
    "MUL": (tflite.MulOptions, _FUSED),
    "DIV": (tflite.DivOptions, _FUSED),
    "MEAN": (tflite.ReducerOptions, {"keep_dims": lambda table: table.KeepDims()}),
    "SOFTMAX": (tflite.SoftmaxOptions, {"beta": lambda table: table.Beta()}),
    "CONCATENATION": (tflite.ConcatenationOptions, {"axis": lambda table: table.Axis(), **_FUSED}),
}


def read_options(kind: str, operator: Any) -> dict[str, Option]:
    """The options of a `tflite.Operator` of this kind; empty for kinds that need none here.

    Keys: `padding` (SAME, VALID), `stride`, `dilation` and `filter` as (height, width), `activation` (NONE, RELU,
    RELU6, ...), `depth_multiplier`, `keep_num_dims`, `shuffled`, `keep_dims`, `beta`, `axis`.
    An operator that stores no options has the format's defaults, which an empty table gives.
    """
    if kind not in _TABLES:
        return {}
    make, readers = _TABLES[kind]
    stored = operator.BuiltinOptions()
    if stored is None:
        return {}
    table = make()
    table.Init(stored.Bytes, stored.Pos)
    return {name: read(table) for name, read in readers.items()}


def read_model(path: Path) -> TfliteModel:
    """Read a file into records; constant tensors are views of the file's bytes.

    Raises:
        WeightsError: no TensorFlow Lite file, a damaged one, or one of several graphs; the message is one line.
    """
    try:
        file = read_bytes(path, most=MAX_MODEL_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    if not file:
        raise WeightsError(f"{path} is empty (0 bytes); download it again")
    if file[4:8] != IDENTIFIER:
        raise WeightsError(
            f"{path} is no TensorFlow Lite file: it lacks the identifier {IDENTIFIER.decode()} at byte 4"
        )
    try:
        return _decode(file, path)
    except _DAMAGE as error:
        raise WeightsError(f"{path} is damaged or cut short ({first_line(error)}): download it again") from error


def _decode(file: bytes, path: Path) -> TfliteModel:
    model = tflite.Model.GetRootAs(file, 0)
    graphs = model.SubgraphsLength()
    if graphs != 1:
        raise WeightsError(f"{path} holds {graphs} graphs, and an image classifier is one: export the network alone")
    graph = model.Subgraphs(0)
    buffers = [_buffer(model, number, file) for number in range(_checked(model.BuffersLength(), file))]
    kinds = [_kind(model.OperatorCodes(number)) for number in range(_checked(model.OperatorCodesLength(), file))]
    tensors = tuple(
        _tensor(graph.Tensors(index), index, buffers) for index in range(_checked(graph.TensorsLength(), file))
    )
    operators = tuple(
        _operator(graph.Operators(number), kinds, len(tensors))
        for number in range(_checked(graph.OperatorsLength(), file))
    )
    extra = {
        _text(entry.Name()): entry.Buffer()
        for entry in map(model.Metadata, range(_checked(model.MetadataLength(), file)))
    }
    described = buffers[extra[BUFFER]].tobytes() if BUFFER in extra else None
    labels, normalization = read_metadata(described, file, str(path))
    return TfliteModel(
        description=_text(model.Description()),
        tensors=tensors,
        operators=operators,
        inputs=_indices(graph.InputsLength(), graph.InputsAsNumpy, len(tensors)),
        outputs=_indices(graph.OutputsLength(), graph.OutputsAsNumpy, len(tensors)),
        metadata=tuple(extra),
        labels=labels,
        normalization=normalization,
    )


def _checked(length: int, file: bytes) -> int:
    """A list's length; each item takes at least an offset's four bytes, so more can't be true."""
    if 4 * length > len(file):
        raise ValueError(f"a list of {length} items in {len(file)} bytes")
    return length


def _buffer(model: Any, number: int, file: bytes) -> NDArray[np.uint8]:
    buffer = model.Buffers(number)
    offset, size = buffer.Offset(), buffer.Size()
    # Files beyond two gigabytes keep their tensors behind the flatbuffer; 0 and 1 mean they do not.
    if offset > 1:
        return np.frombuffer(file, np.uint8, size, offset)
    stored = buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)
    return np.asarray(stored, np.uint8)


def _kind(code: Any) -> str:
    # Files older than schema 3a have a byte for the code; newer ones fill both, and codes above 127 only the second.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _KINDS[number]
    return f"CUSTOM:{_text(code.CustomCode())}" if kind == "CUSTOM" else kind


def _tensor(tensor: Any, index: int, buffers: list[NDArray[np.uint8]]) -> TfliteTensor:
    name, dtype = _text(tensor.Name()), _DTYPES[tensor.Type()]
    shape = tuple(int(side) for side in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    stored = buffers[tensor.Buffer()]
    if tensor.Sparsity() is not None:
        raise WeightsError(f"tensor {name!r} is stored sparse, which is not supported: export it dense")
    data = _values(stored, shape, dtype, name) if stored.size else None
    return TfliteTensor(index, name, shape, dtype, _quantization(tensor.Quantization()), data)


def _values(stored: NDArray[np.uint8], shape: tuple[int, ...], dtype: str, name: str) -> Array | None:
    if dtype == "INT4":
        # Two values a byte, the low half first.
        halves = np.stack((stored & 15, stored >> 4), axis=-1).reshape(-1)[: int(np.prod(shape))]
        return ((halves.astype(np.int8) ^ 8) - 8).reshape(shape)
    if dtype not in _NUMPY:
        return None
    values = stored.view(_NUMPY[dtype])
    if values.size != int(np.prod(shape)):
        raise ValueError(f"tensor {name!r} of shape {list(shape)} holds {values.size} values")
    return values.reshape(shape)


def _quantization(quantization: Any) -> Quantization | None:
    if quantization is None or not quantization.ScaleLength():
        return None
    scales = tuple(float(scale) for scale in quantization.ScaleAsNumpy())
    points = tuple(int(point) for point in quantization.ZeroPointAsNumpy()) if quantization.ZeroPointLength() else (0,)
    if len(points) not in (1, len(scales)):
        raise ValueError(f"{len(scales)} scales and {len(points)} zero points")
    if not all(0 <= scale < _MAX_SCALE for scale in scales):
        raise ValueError(f"a scale of {max(scales)}")
    points = points * (len(scales) // len(points))
    return Quantization(scales, points, quantization.QuantizedDimension())


def _operator(operator: Any, kinds: list[str], tensors: int) -> TfliteOperator:
    kind = kinds[operator.OpcodeIndex()]
    return TfliteOperator(
        kind,
        _indices(operator.InputsLength(), operator.InputsAsNumpy, tensors),
        _indices(operator.OutputsLength(), operator.OutputsAsNumpy, tensors),
        read_options(kind, operator),
    )


def _indices(length: int, read: Callable[[], Any], tensors: int) -> tuple[int, ...]:
    indices = tuple(int(index) for index in read()) if length else ()
    if any(not -1 <= index < tensors for index in indices):
        raise ValueError(f"an operator uses tensors {list(indices)}, of {tensors} there are")
    return indices


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8")
