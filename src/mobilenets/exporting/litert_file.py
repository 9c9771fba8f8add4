"""A LiteRT file, built operator by operator: the flatbuffer's bookkeeping and nothing of networks.

Source: LiteRT's `schema.fbs`, whose generated classes the package `ai-edge-litert` ships.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

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
