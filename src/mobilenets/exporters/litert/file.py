"""A LiteRT file, built operator by operator: the flatbuffer's bookkeeping and nothing of networks.

Source: LiteRT's `schema.fbs`, whose generated classes the package `ai-edge-litert` ships.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

IDENTIFIER: Final = b"TFL3"
SIGNATURE: Final = "serving_default"
"""The name under which tools look for a graph's inputs and outputs when it has only one."""
ANY_BATCH: Final = -1

_SCHEMA_VERSION: Final = 3
_ALIGNMENT: Final = 16
_TYPES: Final = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
_VERSIONS: Final = {"DEQUANTIZE": 3}
"""Versions of operators where the first does not do: `DEQUANTIZE` takes float16 since its third."""
_INT8_VERSIONS: Final = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    **dict.fromkeys(("ADD", "MUL", "MEAN", "PAD", "SOFTMAX", "BATCH_MATMUL", "TRANSPOSE", "DEQUANTIZE"), 2),
    "QUANTIZE": 1,
}
"""Since when operators take int8; source: TensorFlow Lite's `op_version.cc`. Later versions take float32 as well."""
_BOUNDARIES: Final = ("QUANTIZE", "DEQUANTIZE")


class FileBuilder:
    """Collects tensors and operators of one graph; `finish` gives the file.

    Tensors are known by index. Computed ones have a batch of any size in front, of which the file says 1.

    Args:
        description: free text; who wrote the file.
        half: store the weights of layers as float16, each with an operator that widens it. Runtimes widen once, when
            they load the file; only its size is halved.
        for_int8: declare operators in the versions that take int8, and those at its boundaries. The quantizer adds
            the latter itself otherwise, in a way that readers of the schema's older half take for `ADD`.
    """

    def __init__(self, description: str, *, half: bool = False, for_int8: bool = False) -> None:
        self._half = half
        self._versions = _INT8_VERSIONS if for_int8 else _VERSIONS
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = _SCHEMA_VERSION, description
        # Buffer 0 stands for "computed", by the schema's convention.
        self._model.buffers, self._model.operatorCodes = [_Buffer(b"")], []
        self._model.subgraphs = [self._graph]
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[str, int] = {}
        self._numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
        self._names: dict[str, int] = {}
        for kind in _BOUNDARIES if for_int8 else ():
            self._code(kind)

    def computed(self, name: str, shape: Sequence[int], dtype: type[np.generic] = np.float32) -> int:
        """A tensor that is computed, or given: `[B, *shape]`."""
        index = self._tensor(name, (1, *shape), np.dtype(dtype), 0)
        self._graph.tensors[index].shapeSignature = [ANY_BATCH, *shape]
        return index

    def weights(self, name: str, values: NDArray[np.floating[Any]]) -> int:
        """A layer's weights, as float32 or, if the file is to be halved, float16 and widened."""
        if not self._half:
            return self.constant(name, values.astype(np.float32))
        stored = self.constant(f"{name}/half", values.astype(np.float16))
        widened = self._tensor(name, values.shape, np.dtype(np.float32), 0)
        self.operator("DEQUANTIZE", [stored], widened, schema.DequantizeOptionsT())
        return widened

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """A stored tensor, as it is."""
        self._model.buffers.append(_Buffer(np.ascontiguousarray(values).tobytes()))
        return self._tensor(name, values.shape, values.dtype, len(self._model.buffers) - 1)

    def numbers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """Whole numbers an operator wants as a tensor (axes, paddings, shapes); the same ones are stored once."""
        array = np.array(values, np.int32)
        key = (array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.constant("numbers", array)
        return self._numbers[key]

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """Append an operator of a built-in kind (`CONV_2D`); returns `output`."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._graph.operators.append(operator)
        return output

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file. Inputs and outputs go by these names in its signature, and their tensors too."""
        for name, index in (*inputs.items(), *outputs.items()):
            self._graph.tensors[index].name = name
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = _named(inputs), _named(outputs)
        self._model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: Sequence[int], dtype: np.dtype[Any], buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = self._unique(name), list(shape), _TYPES[dtype], buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _unique(self, name: str) -> str:
        """The name, numbered from its second use on: quantizers keep their books by tensor name."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}/{count}"

    def _code(self, kind: str) -> int:
        if kind not in self._codes:
            self._codes[kind] = len(self._model.operatorCodes)
            entry = schema.OperatorCodeT()
            number = getattr(schema.BuiltinOperator, kind)
            # The older of the two fields is a byte; readers take the larger of both.
            entry.builtinCode = number
            entry.deprecatedBuiltinCode = min(number, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
            entry.version = self._versions.get(kind, 1)
            self._model.operatorCodes.append(entry)
        return self._codes[kind]


class _Buffer(schema.BufferT):  # type: ignore[misc]  # generated without types
    """Bytes aligned as the schema demands: the generated class leaves that out, and kernels read misaligned weights."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    def Pack(self, builder: Any) -> int:  # noqa: N802  # the generated classes' name
        """Write the bytes and the table that points to them."""
        data = None
        if self.content:
            builder.StartVector(1, len(self.content), _ALIGNMENT)
            builder.head -= len(self.content)
            builder.Bytes[builder.head : builder.head + len(self.content)] = self.content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _named(tensors: Mapping[str, int]) -> list[Any]:
    entries = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries


ONE = np.ones(())


@dataclass(frozen=True)
class Wire:
    """A computed tensor. The batch stands first everywhere and is left out of all that follows.

    A network reshapes and transposes in PyTorch's order of dimensions, `[B, C, H, W]`; a LiteRT file keeps
    `[B, H, W, C]`. Translating such views one by one gives a transposition for each. A wire remembers instead which
    stored axes make up which dimension of the network, so a view only rewrites that note, and an operator is due only
    where another one needs the values in an order they are not in. MobileNetV4's attention has none left.

    Attributes:
        index: of the tensor in the file.
        shape: as the file has it.
        axes: sizes of the stored axes above 1, outermost first; finer than `shape` where that has merged some.
        dims: of each dimension of the network but the batch: positions in `axes`, outermost first; none for size 1.
        factor: what the values are still to be multiplied with: one number, or one a channel of a `[C, H, W]` map. The
            next layer takes it into its weights.
    """

    index: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dims: tuple[tuple[int, ...], ...]
    factor: NDArray[np.float64]

    @classmethod
    def feature_map(cls, index: int, height: int, width: int, channels: int) -> Self:
        """A tensor stored `[B, H, W, C]` that the network sees as `[B, C, H, W]`."""
        return cls._stored(index, (height, width, channels), (2, 0, 1))

    @classmethod
    def vector(cls, index: int, channels: int) -> Self:
        """A tensor `[B, C]`."""
        return cls._stored(index, (channels,), (0,))

    @classmethod
    def _stored(cls, index: int, shape: tuple[int, ...], order: Sequence[int]) -> Self:
        large = [position for position, size in enumerate(shape) if size > 1]
        dims = tuple((large.index(position),) if position in large else () for position in order)
        return cls(index, shape, tuple(shape[position] for position in large), dims, ONE)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The network's shape, without the batch."""
        return tuple(self.size(dim) for dim in range(len(self.dims)))

    def size(self, dim: int) -> int:
        """Size of the network's dimension `dim`, the batch not counted."""
        return math.prod(self.axes[axis] for axis in self.dims[dim])

    def order(self, dims: Sequence[int]) -> tuple[int, ...]:
        """Stored axes in the order of these dimensions."""
        return tuple(axis for dim in dims for axis in self.dims[dim])

    def flatten(self, first: int, last: int) -> Wire:
        """The dimensions from `first` to `last`, both included, as one."""
        merged = self.order(range(first, last + 1))
        return replace(self, dims=(*self.dims[:first], merged, *self.dims[last + 1 :]))

    def transpose(self, first: int, second: int) -> Wire:
        """Two dimensions exchanged."""
        dims = list(self.dims)
        dims[first], dims[second] = dims[second], dims[first]
        return replace(self, dims=tuple(dims))

    def append_ones(self, count: int) -> Wire:
        """That many dimensions of size 1 more, at the end."""
        return replace(self, dims=(*self.dims, *[()] * count))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Wire:
        """One dimension as several; a size of -1 follows from the others.

        Raises:
            ValueError: the sizes don't divide it.
        """
        known = math.prod(size for size in sizes if size != -1)
        wanted = [self.size(dim) // known if size == -1 else size for size in sizes]
        if math.prod(wanted) != self.size(dim):
            raise ValueError(f"{self.size(dim)} places are no {' x '.join(map(str, sizes))}")
        wire: Wire = self
        parts: list[list[int]] = []
        rest = list(self.dims[dim])
        for size in wanted:
            part: list[int] = []
            while (missing := _quotient(size, math.prod(wire.axes[axis] for axis in part))) > 1:
                if wire.axes[rest[0]] > missing:
                    wire = wire._split(rest[0], missing)
                    # What follows the split axis has moved up by one.
                    rest = [rest[0], rest[0] + 1, *(axis + (axis > rest[0]) for axis in rest[1:])]
                    parts = [[axis + (axis > rest[0]) for axis in done] for done in parts]
                    part = [axis + (axis > rest[0]) for axis in part]
                part.append(rest.pop(0))
            parts.append(part)
        return replace(wire, dims=(*wire.dims[:dim], *map(tuple, parts), *wire.dims[dim + 1 :]))

    def _split(self, axis: int, outer: int) -> Wire:
        axes = (*self.axes[:axis], outer, _quotient(self.axes[axis], outer), *self.axes[axis + 1 :])

        def moved(position: int) -> tuple[int, ...]:
            return (position, position + 1) if position == axis else (position + (position > axis),)

        dims = tuple(tuple(new for old in dim for new in moved(old)) for dim in self.dims)
        return replace(self, axes=axes, dims=dims)


def _quotient(size: int, part: int) -> int:
    if size % part:
        raise ValueError(f"{size} places can't be cut into pieces of {part}")
    return size // part
