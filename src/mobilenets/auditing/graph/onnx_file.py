"""Loading an ONNX file of unknown origin: its sizes are compared with what is there before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final

from mobilenets.limits import MAX_MODEL_BYTES, read_bytes, require_regular

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

MAX_ELEMENTS: Final = 2**31
"""Of one tensor, also of what the network is given."""
_MAX_GRAPHS: Final = 16
"""Graphs within each other, of branches and loops."""


def load_model(path: Path) -> ModelProto:
    """Read the file and the external data beside it.

    Raises:
        ValueError: a tensor claims more values than there are, or data outside the file's folder.
        OSError: it can't be read, or is no regular file.
        google.protobuf.message.DecodeError: it is no ONNX file.
    """
    import onnx

    model = onnx.load_from_string(read_bytes(path, most=MAX_MODEL_BYTES))
    for tensor in _tensors(model.graph):
        _check_tensor(tensor, path)
    for function in model.functions:
        for node in function.node:
            for tensor in _in_attributes(node.attribute, 0):
                _check_tensor(tensor, path)
    onnx.load_external_data_for_model(model, str(path.parent))
    return model


def check_shape(what: str, shape: tuple[int, ...]) -> None:
    """Refuse a shape of more values than any tensor of an image classifier has.

    Raises:
        ValueError: it has, or a negative side.
    """
    if any(side < 0 for side in shape) or prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"{what[:60]!r} claims to be of shape {list(shape)[:8]}")


def _check_tensor(tensor: TensorProto, path: Path) -> None:
    import onnx

    shape = tuple(tensor.dims)
    check_shape(tensor.name, shape)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, path)
    elif tensor.HasField("raw_data"):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if prod(shape) > 2 * max(1, len(tensor.raw_data)) // max(1, dtype.itemsize) + 1:  # two 4-bit values a byte
            held = len(tensor.raw_data)
            raise ValueError(f"tensor {tensor.name[:60]!r} of shape {list(shape)[:8]} holds {held} bytes")


def _check_external(tensor: TensorProto, path: Path) -> None:
    """Where a tensor's data lies: a regular file below the model's own folder, with as many bytes."""
    stated = {entry.key: entry.value for entry in tensor.external_data}
    location = stated.get("location", "")
    parts = PurePosixPath(location).parts
    plain = parts and ".." not in parts and not PurePosixPath(location).is_absolute()
    if not plain or PureWindowsPath(location).anchor or "\0" in location or "\\" in location:
        raise ValueError(f"tensor {tensor.name[:60]!r} has its data outside of the file's folder ({location[:60]!r})")
    file = path.parent / location
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError(f"tensor {tensor.name[:60]!r} has its data outside of the file's folder ({location[:60]!r})")
    require_regular(file, most=MAX_MODEL_BYTES)
    offset, length = (int(stated.get(key) or 0) for key in ("offset", "length"))
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise ValueError(f"tensor {tensor.name[:60]!r} has its data beyond the end of {location[:60]!r}")


def _tensors(graph: GraphProto, depth: int = 0) -> Iterator[TensorProto]:
    if depth > _MAX_GRAPHS:
        raise ValueError(f"more than {_MAX_GRAPHS} graphs within each other")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _in_attributes(node.attribute, depth)


def _in_attributes(attributes: Iterator[AttributeProto], depth: int) -> Iterator[TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors(graph, depth + 1)
