"""A network as a graph of operators, the same whatever it was read from.

Front ends (PyTorch, ONNX, TensorFlow Lite) translate every operator into one of the few kinds below; whatever they do
not know becomes `Other`, never an error. Shapes are channels first, `[B, C, H, W]` or `[B, C]`, in every front end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Conv:
    """A convolution; `padding` in pixels is (top, bottom, left, right), of the convolution alone."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool


@dataclass(frozen=True)
class Linear:
    """A product with a constant matrix, and perhaps a bias."""

    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True)
class Norm:
    """A normalization: `kind` is batch, layer, group, instance or affine (a constant scale and shift per channel).

    `frozen`: its scale and shift are buffers, no parameters. `eps` of an affine one is 0 where nothing tells it.
    `uses_batch`: it takes the statistics of the batch although the network is in evaluation mode.
    `momentum` is PyTorch's (the weight of the new value); None where the file does not say.
    """

    kind: str
    channels: int
    affine: bool
    eps: float
    momentum: float | None
    uses_batch: bool
    frozen: bool = False


@dataclass(frozen=True)
class Pointwise:
    """A function of one tensor, value by value, known by what it does: `function` maps float64 values."""

    label: str
    function: Callable[[Values], Values]


@dataclass(frozen=True)
class Add:
    """The sum of two tensors of the network (constants make a `Pointwise`)."""


@dataclass(frozen=True)
class Multiply:
    """The product, value by value, of two tensors of the network, broadcast or not."""


@dataclass(frozen=True)
class ChannelScale:
    """A learnt factor per channel (a layer scale), or a learnt shift when `shift`; `eps` as of an affine `Norm`."""

    channels: int
    shift: bool = False
    eps: float = 0.0


@dataclass(frozen=True)
class PoolOperation:
    """A pool: `kind` average or max. `adaptive`: its window follows the input's size.

    `window` and `stride` are those at this input; a pool of the whole map has a window equal to the map.
    """

    kind: str
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    adaptive: bool


@dataclass(frozen=True)
class Pad:
    """Zeros around the map, (top, bottom, left, right), and before and after the channels."""

    padding: tuple[int, int, int, int]
    channels: tuple[int, int]


@dataclass(frozen=True)
class Slice:
    """A part of a tensor, or every nth place of it: `steps` per dimension."""

    steps: tuple[int, ...]


@dataclass(frozen=True)
class Dropout:
    """Dropout of rate `rate`; `active`: also in evaluation mode. Stochastic depth counts as dropout with `whole`."""

    rate: float
    active: bool
    whole: bool = False


@dataclass(frozen=True)
class Reshape:
    """Another shape or layout of the same values: flatten, view, squeeze, transpose, contiguous, cast."""


@dataclass(frozen=True)
class Concat:
    """Tensors side by side along `axis`."""

    axis: int


@dataclass(frozen=True)
class MatMul:
    """A product of two tensors of the network, as in attention; `macs` are its multiply-adds for the whole batch."""

    macs: int


@dataclass(frozen=True)
class Softmax:
    """Softmax along `axis`, or its logarithm."""

    axis: int
    log: bool = False


@dataclass(frozen=True)
class Attention:
    """Scaled dot-product attention as one operator (query, key, value); `macs` of its two products."""

    macs: int


@dataclass(frozen=True)
class Other:
    """Anything else, by the framework's own name for it."""

    label: str


Operator = (
    Conv
    | Linear
    | Norm
    | Pointwise
    | Add
    | Multiply
    | ChannelScale
    | PoolOperation
    | Pad
    | Slice
    | Dropout
    | Reshape
    | Concat
    | MatMul
    | Softmax
    | Attention
    | Other
)


@dataclass(frozen=True)
class Node:
    """One operator at work.

    Attributes:
        name: unique in the graph.
        operator: what it does.
        inputs: names of the nodes it reads, in order; the network's input is `Graph.input`. Constants are not listed.
        shape: of its (first) output, batch first, channels second.
        path: where the user finds it: dotted module path; an ONNX node's name; a TensorFlow Lite output tensor's name.
        parameters: elements of the parameters it is the first to read (a parameter shared by nodes is counted once).
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    path: str
    parameters: int


@dataclass(frozen=True)
class Graph:
    """A network in evaluation mode, for one input.

    Attributes:
        nodes: in order of execution.
        input: name of the input, which no node has.
        input_shape: `[B, C, H, W]`, channels first even where the file takes `[B, H, W, C]`.
        output: name of the node whose value is the answer.
        parameters: elements of all parameters, used or not; of a file: of all its weights and biases.
        unused: paths and sizes of parameters no node reads.
        front_end: `torch.export`, `hooks`, `ONNX` or `TensorFlow Lite`.
        notes: what could not be seen and why, a sentence each (`torch.export failed: ...; read with hooks instead`).
    """

    nodes: tuple[Node, ...]
    input: str
    input_shape: tuple[int, int, int, int]
    output: str
    parameters: int
    unused: tuple[tuple[str, int], ...]
    front_end: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Behaviour:
    """What running a module shows and its graph does not. None: not probed (a file can't be trained).

    Attributes:
        stays_in_training: after `eval()`, paths of modules that still behave as in training (dropout, batch norm).
        varies: two runs in evaluation mode on the same images differ.
        depends_on_batch: an image's answer changes with the other images of its batch, in evaluation mode.
        frozen_norms: paths of batch norms in training mode whose running statistics do not move in a training step.
        held_norms: paths of batch norms that stay in evaluation mode after `train()`: the code holds them there.
        fixed_size: error message of a run on a larger image when it fails, or None when it works.
        dead_shortcuts: paths of `Add` nodes (names where they have none) where, with the branch zeroed, the output is
            not the shortcut's input.
    """

    stays_in_training: tuple[str, ...] = ()
    varies: bool = False
    depends_on_batch: bool = False
    frozen_norms: tuple[str, ...] = ()
    held_norms: tuple[str, ...] = ()
    fixed_size: str | None = None
    dead_shortcuts: tuple[str, ...] = ()


# Tidying a recorded graph: unused nodes are dropped, scale and shift per channel become one normalization.


def without_dead(nodes: tuple[Node, ...], output: str) -> tuple[Node, ...]:
    """Leave out nodes that neither the answer nor a node with parameters depends on."""
    needed = {output}
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.name in needed or node.parameters:
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def merged_affine(nodes: tuple[Node, ...], output: str) -> tuple[Node, ...]:
    """Make one affine `Norm` of a run of per-channel factors and shifts: a batch norm written out, or frozen.

    A factor alone is a layer scale and a shift alone a bias; both stay what they are.
    """
    readers = Counter(name for node in nodes for name in node.inputs)
    made: dict[str, Node] = {}
    for node in nodes:
        before = made.get(node.inputs[0]) if node.inputs else None
        if _per_channel(node) and before is not None and _per_channel(before) and readers[before.name] == 1:
            del made[before.name]
            node = _joined(before, node)
        made[node.name] = node
    return tuple(made.values())


def _per_channel(node: Node) -> bool:
    operator = node.operator
    return isinstance(operator, ChannelScale) or (isinstance(operator, Norm) and operator.kind == "affine")


def _joined(first: Node, second: Node) -> Node:
    assert isinstance(first.operator, (ChannelScale, Norm))
    learnt = any(isinstance(node.operator, ChannelScale) or node.parameters for node in (first, second))
    learnt = learnt or any(isinstance(node.operator, Norm) and node.operator.affine for node in (first, second))
    assert isinstance(second.operator, (ChannelScale, Norm))
    eps = max(first.operator.eps, second.operator.eps)
    norm = Norm("affine", first.operator.channels, affine=learnt, eps=eps, momentum=None, uses_batch=False)
    return replace(second, operator=norm, inputs=first.inputs, parameters=first.parameters + second.parameters)
