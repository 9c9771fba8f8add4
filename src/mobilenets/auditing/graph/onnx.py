"""An ONNX file as a graph: any opset, from any exporter, in either layout.

ONNX Runtime runs the file once with every intermediate value as an output. So the shapes are exact, and whatever does
not depend on the images (folded weights, shape arithmetic) is known by value, without a constant folder of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from mobilenets.auditing.graph.nodes import Conv, Graph, Node, Operator, merged_affine, without_dead
from mobilenets.auditing.graph.sandbox import place_of_answer
from mobilenets.errors import AuditError, MissingExtraError, first_line
from mobilenets.install import install_line
from mobilenets.limits import MAX_MODEL_BYTES, read_bytes, require_regular

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

    from mobilenets.auditing.graph.onnx_values import OnnxCall


# Loading an ONNX file of unknown origin: its sizes are compared with what is there before anything is made of them.


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


INPUT = "input"
_DEFAULT_SIZE = 224
# Of a tensor of the network they tell the shape only.
_SHAPE_ONLY = {"Shape", "Size"}
# The same values under another name.
_SEEN_THROUGH = {"Identity", "QuantizeLinear", "DequantizeLinear"}
# ONNX Runtime's exceptions share no base of their own.
_FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoSuchFile,
    failures.NotImplemented,
    failures.RuntimeException,
    RuntimeError,
)
# What a damaged file brings onnx and NumPy to.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, OverflowError, AttributeError, RecursionError, MemoryError)
_MAX_SIDE = 65_536
_MAX_VALUES = 2**28
Values = dict[str, NDArray[Any]]
# Between a vector's name and its reader's: no name holds it.
_READER = "\0"


def onnx_graph(path: Path, image_size: int | None = None) -> Graph:
    """Read an ONNX file.

    Args:
        path: the file; external data lies beside it.
        image_size: side of the images in pixels where the file leaves it open; None is 224.

    Returns:
        Its graph, shapes channels first. A free batch size becomes 1. Quantize and dequantize nodes are seen through.

    Raises:
        AuditError: the file is missing, damaged, takes no images, or needs what this ONNX Runtime does not have.
        MissingExtraError: the package `onnx` is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingExtraError(f"reading ONNX files needs onnx: {install_line('export')}")
    model = _loaded(path)
    name, shape = _images(model.graph, path, image_size)
    try:
        values = _all_values(model, path, name, shape)
        return _Reader(model, name, values).graph()
    except (*_DAMAGE, ArithmeticError) as error:
        raise AuditError(f"{path} can't be read as a network: {first_line(error)}; export it again") from error


def _loaded(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]  # protobuf leaves it untyped
    from onnx.inliner import inline_local_functions

    try:
        model = load_model(path)
        if not model.graph.node:
            raise AuditError(f"{path} holds no network: it is empty or cut short; export it again")
        return inline_local_functions(model) if model.functions else model
    except (*_DAMAGE, DecodeError, EncodeError, onnx.checker.ValidationError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AuditError(f"{path} can't be read as ONNX: {reason}; export it again") from error


def _images(graph: GraphProto, path: Path, image_size: int | None) -> tuple[str, tuple[int, ...]]:
    """Name and full shape of the input that takes images."""
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and len(dims) == 4:
            known = [dim.dim_value for dim in dims]
            known[0] = known[0] or 1
            channels = 3 if known[3] in (1, 3, 4) and known[1] not in (1, 3, 4) else 1
            known[channels] = known[channels] or 3
            shape = tuple(size or image_size or _DEFAULT_SIZE for size in known)
            if max(shape) > _MAX_SIDE or min(shape) < 1 or prod(shape) > _MAX_VALUES:
                raise AuditError(f"{path} takes images of shape {list(shape)}: no image classifier")
            return value.name, shape
    raise AuditError(f"{path} has no input of images [B, C, H, W] or [B, H, W, C]: no image classifier")


def _all_values(model: ModelProto, path: Path, name: str, shape: tuple[int, ...]) -> Values:
    """Every named value of one run on noise; weights too."""
    import onnx
    from onnx import helper, numpy_helper

    try:
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except _DAMAGE as error:
        raise AuditError(f"{path} holds a damaged tensor: {first_line(error)}; export it again") from error
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    given = {value.name for value in probe.graph.output}
    wanted = [output for node in probe.graph.node for output in node.output if output and output not in given]
    probe.graph.output.extend([helper.make_empty_tensor_value_info(output) for output in wanted])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            probe.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        feeds = {item.name: _noise(item.type, item.shape) for item in session.get_inputs()}
        kind = next(item.type for item in session.get_inputs() if item.name == name)
        feeds[name] = _noise(kind, shape)
        results = session.run(names, feeds)
    except (*_FAILURES, *_DAMAGE, StopIteration) as error:
        reason = first_line(error)
        raise AuditError(f"{path} can't be run by ONNX Runtime: {reason}; export it again") from error
    return values | dict(zip(names, results, strict=True)) | {name: feeds[name]}


def _noise(kind: str, shape: Any) -> NDArray[Any]:
    """Values of an ONNX Runtime type such as `tensor(float)`; free sizes become 1."""
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    check_shape("an input", tuple(sizes))
    generator = np.random.default_rng(0)
    if "float" in kind or "double" in kind:
        dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(kind, np.float32)
        return generator.standard_normal(sizes).astype(dtype)
    return generator.integers(0, 127, sizes).astype(kind.removeprefix("tensor(").removesuffix(")"))


class _Reader:
    """Walks the file's nodes in order (ONNX demands that they are sorted)."""

    def __init__(self, model: ModelProto, input_name: str, values: Values) -> None:
        self._graph = model.graph
        self._opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
        self._values = values
        self._input = input_name
        # Value name -> node that makes it; through `Identity` and the like, the node before.
        self._makers: dict[str, str] = {input_name: INPUT}
        shape = values[input_name].shape
        self._nhwc = {input_name} if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else set()
        self._nodes: list[Node] = []
        self._names: set[str] = {INPUT}
        # Constant value -> the stored weights it comes from.
        self._sources = {tensor.name: frozenset({tensor.name}) for tensor in self._graph.initializer}
        self._sizes = {tensor.name: prod(tensor.dims) for tensor in self._graph.initializer}
        self._read: set[str] = set()
        self._notes: list[str] = []

    def graph(self) -> Graph:
        """All nodes that the answer depends on."""
        for node in self._graph.node:
            self._take(node)
        answer = self._answer()
        shape = self._shape(self._input)
        return Graph(
            nodes=merged_affine(without_dead(tuple(self._nodes), answer), answer),
            input=INPUT,
            input_shape=(shape[0], shape[1], shape[2], shape[3]),
            output=answer,
            parameters=sum(self._sizes[name.partition(_READER)[0]] for name in self._read),
            unused=(),
            front_end="ONNX",
            notes=tuple(self._notes),
        )

    def _answer(self) -> str:
        """Name of the node whose value is the answer; the input's where no output depends on it."""
        names = [item.name for item in self._graph.output if item.name in self._makers]
        if not names:
            return INPUT
        outputs = [(self._makers[name], self._shape(name)) for name in names]
        return outputs[place_of_answer(outputs, self._nodes)][0]

    def _take(self, node: NodeProto) -> None:
        flowing = [name for name in node.input if name in self._makers]
        if not flowing or node.op_type in _SHAPE_ONLY:
            self._take_constant(node)
        elif node.op_type in _SEEN_THROUGH and node.input[0] in self._makers:
            self._rename(node, flowing[0])
        else:
            self._take_operator(node, flowing)

    def _take_constant(self, node: NodeProto) -> None:
        if node.op_type == "Constant" and node.output[0] in self._values:
            self._sizes[node.output[0]] = int(self._values[node.output[0]].size)
            self._sources[node.output[0]] = frozenset({node.output[0]})
            return
        # A dequantized weight is its integers; scale and zero point are no parameters.
        inputs = node.input[:1] if node.op_type in ("DequantizeLinear", "QuantizeLinear") else node.input
        sources = frozenset().union(*(self._sources.get(name, frozenset()) for name in inputs))
        for output in node.output:
            self._sources[output] = sources

    def _rename(self, node: NodeProto, source: str) -> None:
        self._makers[node.output[0]] = self._makers[source]
        if source in self._nhwc:
            self._nhwc.add(node.output[0])

    def _take_operator(self, node: NodeProto, flowing: list[str]) -> None:
        from mobilenets.auditing.graph.onnx_operators import translate
        from mobilenets.auditing.graph.onnx_values import OnnxCall, keeps_layout

        layout = self._layout(node, flowing)
        if keeps_layout(node) and flowing[0] in self._nhwc:
            self._nhwc.update(node.output)
        elif layout is not None:
            self._nhwc.update(node.output if layout else ())
        constants = {name: self._values[name] for name in node.input if name and name not in self._makers}
        shapes = {name: tuple(self._values[name].shape) for name in (*flowing, *node.output) if name in self._values}
        if not any(name in shapes for name in node.output):
            return
        stem_seen = any(isinstance(item.operator, Conv) for item in self._nodes)
        nhwc = flowing[0] in self._nhwc
        call = OnnxCall(node, tuple(flowing), constants, shapes, nhwc, self._opset, before_stem=not stem_seen)
        operator = translate(call)
        inputs = tuple(self._makers[name] for name in flowing)
        self._append(call, operator, inputs)

    def _append(self, call: OnnxCall, operator: Operator, inputs: tuple[str, ...]) -> None:
        new = self._weights(call, operator) - self._read
        self._read |= new
        own = sum(self._sizes[source.partition(_READER)[0]] for source in new)
        for number, output in enumerate(name for name in call.node.output if name in call.shapes):
            name = output if output not in self._names else f"{output}:{number}"
            self._names.add(name)
            path = call.node.name or call.node.output[0]
            parameters = own if number == 0 else 0
            self._nodes.append(Node(name, operator, inputs, self._shape(output), path, parameters))
            self._makers[output] = name

    def _weights(self, call: OnnxCall, operator: Operator) -> frozenset[str]:
        """Which of a node's constants are parameters, by their stored names.

        Exporters store equal tensors once: of a network fresh from its constructor, all norms of a width share their
        ones and zeros. So a vector counts for each node and place that reads it; a matrix only once, as it is shared
        when the network shares it.
        """
        found: set[str] = set()
        for place, value in enumerate(call.weight_inputs(operator)):
            for name in self._sources.get(value, frozenset()):
                # However many axes of one place a vector per channel is stored with.
                vector = self._values[name].size == max(self._values[name].shape, default=1)
                found.add(f"{name}{_READER}{call.node.output[0]}{_READER}{place}" if vector else name)
        return frozenset(found)

    def _layout(self, node: NodeProto, flowing: list[str]) -> bool | None:
        """Whether a transposition leaves channels last; None for other operators."""
        from mobilenets.auditing.graph.onnx_values import attribute

        if node.op_type != "Transpose":
            return None
        order = tuple(attribute(node, "perm", ()))
        return {(0, 2, 3, 1): True, (0, 3, 1, 2): False}.get(order)

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(self._values[name].shape)
        return (shape[0], shape[3], shape[1], shape[2]) if name in self._nhwc and len(shape) == 4 else shape
