"""What a network read from a file costs: the figures of `auditing.count`, from its graph instead of a forward pass."""

from __future__ import annotations

from math import prod

from mobilenets.auditing.count import LayerCount, NetworkCount, peak_activation, separable_pairs
from mobilenets.auditing.graph.nodes import (
    Add,
    Attention,
    ChannelScale,
    Conv,
    Dropout,
    Graph,
    Linear,
    MatMul,
    Multiply,
    Node,
    Norm,
    Operator,
    Pointwise,
    Reshape,
)
from mobilenets.auditing.trace import Convolution, Operation, Trace

_FLOAT_BYTES = 4
# Each place of their result depends on the same place of what they read.
_KEEP_POSITIONS = (Norm, Pointwise, Multiply, Add, ChannelScale, Dropout)


def count_graph(graph: Graph) -> NetworkCount:
    """Count a network that was read from a file, for the images it takes.

    Every operator is taken to fill memory of its own, but for those that only give values another shape. A runtime
    that fuses activations into convolutions needs less.
    """
    record = _record(graph)
    pairs = separable_pairs(record.operations)
    macs = sum(operation.macs for operation in record.operations)
    peak_bytes, peak_layer = peak_activation(record)
    return NetworkCount(
        input_shape=graph.input_shape,
        layers=_layers(graph, record),
        separable_pairs=pairs,
        parameters=graph.parameters,
        macs=macs,
        activation_bytes=sum(record.buffer_bytes[record.inputs :]),
        peak_activation_bytes=peak_bytes,
        peak_layer=peak_layer,
        standard_parameters=graph.parameters + sum(pair.standard_parameters - pair.parameters for pair in pairs),
        standard_macs=macs + sum(pair.standard_macs - pair.macs for pair in pairs),
    )


def _record(graph: Graph) -> Trace:
    """The graph as the operations of one forward pass."""
    buffers = {graph.input: 0}
    sizes = [_FLOAT_BYTES * prod(graph.input_shape)]
    operations = []
    for node in graph.nodes:
        reads = tuple(buffers[name] for name in node.inputs if name in buffers)
        if reads and isinstance(node.operator, Reshape | Dropout):
            buffers[node.name] = reads[0]
        else:
            buffers[node.name] = len(sizes)
            sizes.append(_FLOAT_BYTES * prod(node.shape))
        operations.append(
            Operation(
                path=node.path or node.name,
                reads=reads,
                writes=(buffers[node.name],),
                macs=_macs(node),
                parameters=node.parameters,
                keeps_positions=isinstance(node.operator, _KEEP_POSITIONS),
                is_norm=isinstance(node.operator, Norm),
                convolution=_convolution(node.operator),
            )
        )
    return Trace(tuple(operations), tuple(sizes), inputs=1, modules={})


def _macs(node: Node) -> int:
    match node.operator:
        case Conv() as conv:
            return prod(node.shape) * (conv.in_channels // conv.groups) * prod(conv.kernel)
        case Linear() as linear:
            return prod(node.shape) * linear.in_features
        case MatMul(macs) | Attention(macs):
            return macs
    return 0


def _convolution(operator: Operator) -> Convolution | None:
    if not isinstance(operator, Conv):
        return None
    shape = (operator.out_channels, operator.in_channels // operator.groups, *operator.kernel)
    return Convolution(shape, groups=operator.groups, stride=operator.stride)


def _layers(graph: Graph, record: Trace) -> tuple[LayerCount, ...]:
    """A row an operator, in order; then what no operator reads."""
    filled = {0}
    layers = []
    for node, operation in zip(graph.nodes, record.operations, strict=True):
        new = set(operation.writes) - filled
        filled |= new
        layers.append(
            LayerCount(
                path=operation.path,
                kind=type(node.operator).__name__,
                output_shape=node.shape,
                parameters=node.parameters,
                macs=operation.macs,
                activation_bytes=sum(record.buffer_bytes[buffer] for buffer in new),
                calls=1,
            )
        )
    unused = (LayerCount(path, "unused", (), size, macs=0, activation_bytes=0, calls=0) for path, size in graph.unused)
    return (*layers, *unused)
