"""A graph prepared for folding: who reads whom, and the patterns in it that become part of a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mobilenets.auditing.graph.nodes import (
    Attention,
    ChannelScale,
    Concat,
    Conv,
    Linear,
    MatMul,
    Node,
    Norm,
    Other,
    Pad,
    Pointwise,
    PoolOperation,
    Slice,
    Softmax,
)
from mobilenets.auditing.graph.probe import name_activation
from mobilenets.auditing.structure.cost import squeeze_cost
from mobilenets.auditing.structure.layers import (
    AttentionUnit,
    ChainLayer,
    Grouping,
    Padding,
    ShortcutKind,
    SqueezeExcite,
)
from mobilenets.models.layers import same_padding


@dataclass(frozen=True)
class DropoutPlace:
    """A dropout taken out of the graph: its rate, the node it read, and where the user finds it."""

    rate: float
    whole: bool
    source: str
    path: str


@dataclass(frozen=True)
class Wiring:
    """What is left of a graph after simplifying: nodes in order of execution, of which each matters.

    Attributes:
        nodes: by name, in order of execution; all lead to `output`.
        input: name of the input, which no node has.
        input_shape: `[B, C, H, W]`.
        output: name of the node with the answer.
        dropouts: in order; no longer among the nodes.
        dead: nodes that do not lead to the output.
    """

    nodes: dict[str, Node]
    input: str
    input_shape: tuple[int, ...]
    output: str
    dropouts: tuple[DropoutPlace, ...] = ()
    dead: tuple[Node, ...] = ()

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each node in the order of execution; the input is before all."""
        return {self.input: -1, **{name: place for place, name in enumerate(self.nodes)}}

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The nodes that read each node (or the input), once each, in order."""
        return readers_of(self.nodes.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of the input."""
        return self.input_shape if name == self.input else self.nodes[name].shape

    def between(self, source: str, sink: str) -> tuple[str, ...]:
        """The nodes on any path from `source` to `sink`, in order, with both; empty when there is no path."""
        start = self.position[source]
        back: set[str] = set()
        queue = [sink]
        while queue:
            name = queue.pop()
            if name in back or self.position.get(name, -2) < start:
                continue
            back.add(name)
            if name != source:
                queue.extend(self.nodes[name].inputs if name in self.nodes else ())
        if source not in back:
            return ()
        reached = {source}
        for name in sorted(back - {source}, key=self.position.__getitem__):
            if any(read in reached for read in self.nodes[name].inputs):
                reached.add(name)
        return tuple(sorted(reached, key=self.position.__getitem__))

    def waypoints(self, members: Sequence[str]) -> tuple[str, ...]:
        """Those of `members` (as `between` gives them) that every path from the first to the last passes through."""
        place = {name: index for index, name in enumerate(members)}
        passed = 0  # the furthest member that an edge from an earlier one reaches
        points = []
        for index, name in enumerate(members):
            if passed <= index:
                points.append(name)
            reached = (place[reader] for reader in self.readers.get(name, ()) if reader in place)
            passed = max(passed, *reached, index + 1)
        return tuple(points)


def readers_of(nodes: Iterable[Node]) -> dict[str, tuple[str, ...]]:
    """The nodes that read each name, once each, in order."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            found.setdefault(name, []).append(node.name)
    return {name: tuple(names) for name, names in found.items()}


# A convolution alone: as a layer, its padding by name, its weights and multiply-adds; the blur that only looks so.


def conv_layer(node: Node, operator: Conv, map_shape: tuple[int, ...]) -> ChainLayer:
    """The layer a convolution makes of a map of this shape, `[B, C, H, W]`, before anything hangs on it."""
    depthwise = operator.groups == operator.in_channels > 1
    grouped = operator.groups > 1 and not depthwise
    padding = padding_name(operator, map_shape)
    return ChainLayer(
        out_channels=operator.out_channels,
        kernel=max(operator.kernel),
        stride=max(operator.stride),
        grouping=Grouping.DEPTHWISE if depthwise else Grouping.GROUPED if grouped else Grouping.DENSE,
        groups=operator.groups if grouped else 1,
        multiplier=operator.out_channels // operator.in_channels if depthwise else 1,
        dilation=max(operator.dilation),
        padding=padding,
        zeros=operator.padding[:2] if padding is Padding.OTHER else (0, 0),
        bias=operator.bias,
        path=node.path,
    )


def padding_name(operator: Conv, map_shape: tuple[int, ...]) -> Padding:
    """Where a convolution puts its zeros on a map of this shape; symmetric wherever SAME comes to the same."""
    (high, wide), (down, across), (reach_down, reach_across) = operator.kernel, operator.stride, operator.dilation
    reach = ((high - 1) * reach_down + 1, (wide - 1) * reach_across + 1)
    even = (reach[0] - 1) // 2, (reach[1] - 1) // 2
    if operator.padding == (even[0], even[0], even[1], even[1]):
        return Padding.SYMMETRIC
    same = (*same_padding(map_shape[2], reach[0], down), *same_padding(map_shape[3], reach[1], across))
    if operator.padding == same:
        return Padding.SAME
    return Padding.OTHER if any(operator.padding) else Padding.VALID


def conv_weights(operator: Conv | Linear) -> int:
    """Elements of the weight and the bias."""
    if isinstance(operator, Linear):
        return (operator.in_features + operator.bias) * operator.out_features
    per_output = operator.kernel[0] * operator.kernel[1] * operator.in_channels // operator.groups
    return (per_output + operator.bias) * operator.out_channels


def node_macs(node: Node, batch: int) -> int:
    """Multiply-adds of a node for one image: of convolutions, linear layers and attention's products; else 0."""
    operator = node.operator
    if isinstance(operator, Conv):
        per_output = operator.kernel[0] * operator.kernel[1] * operator.in_channels // operator.groups
        return math.prod(node.shape[1:]) * per_output
    if isinstance(operator, Linear):
        return math.prod(node.shape[1:]) * operator.in_features
    if isinstance(operator, MatMul | Attention):
        return operator.macs // batch
    return 0


def is_blur(node: Node, wiring: Wiring, *, is_file: bool) -> bool:
    """Whether a convolution is a fixed blur: a depthwise one whose weights are no parameters, with nothing behind it.

    A convolution that is called again owns no parameters either, but a normalization or activation follows it. A file
    does not tell weights from constants; there only the stride, taken after the function of a layer, marks a blur.
    """
    operator = node.operator
    if not isinstance(operator, Conv) or operator.bias or operator.groups != operator.in_channels:
        return False
    if operator.out_channels != operator.in_channels or operator.kernel == (1, 1):
        return False
    if not is_file and node.parameters:
        return False
    behind = [wiring.nodes[name].operator for name in wiring.readers.get(node.name, ())]
    if not is_file:
        return not any(isinstance(reader, Norm | Pointwise) for reader in behind)
    before = wiring.nodes.get(node.inputs[0])
    after_function = before is not None and isinstance(before.operator, Pointwise)
    return after_function and max(operator.stride) > 1 and all(isinstance(reader, Conv) for reader in behind)


# Squeeze-and-excitation in a graph: a product of a map with a gate computed from its own mean.


def squeeze_excite(gate: Sequence[Node]) -> SqueezeExcite | None:
    """Squeeze-and-excitation whose gate is this path of nodes, from the map to the factor; None when it is another.

    The path is: a mean over the map, a 1x1 convolution or linear layer down, a function, another up, the gate's
    function; batch norms may stand behind either layer. Source: Hu et al. 2018 (arXiv 1709.01507), figure 3.
    """
    if not gate or not _is_mean(gate[0]):
        return None
    dense: list[Node] = []
    functions: list[list[str]] = [[], []]
    norms = 0
    for node in gate[1:]:
        match node.operator:
            case Conv(kernel=(1, 1), groups=1) | Linear():
                dense.append(node)
            case Norm() if dense:
                norms += 1
            case Pointwise() if dense and len(dense) <= 2:
                functions[len(dense) - 1].append(name_activation(node.operator.function))
            case PoolOperation() if math.prod(node.shape[2:]) == 1:
                continue
            case _:
                return None
    if len(dense) != 2 or any(len(names) > 1 for names in functions):
        return None
    found = SqueezeExcite(
        channels=_width(dense[0]),
        activation=functions[0][0] if functions[0] else "none",
        gate=functions[1][0] if functions[1] else "none",
        before_activation=False,
        bias=all(_has_bias(node) for node in dense),
        norms=norms,
        fixed_pool=_fixed_window(gate[0]),
        path=dense[0].path,
    )
    said, _ = squeeze_cost(found, _width(dense[1]))
    return replace(found, other=sum(node.parameters for node in gate) - said)


def _is_mean(node: Node) -> bool:
    operator = node.operator
    return isinstance(operator, PoolOperation) and operator.kind == "average" and math.prod(node.shape[2:]) == 1


def _fixed_window(pool: Node) -> int:
    operator = pool.operator
    assert isinstance(operator, PoolOperation)
    return 0 if operator.adaptive else max(operator.window)


def _width(node: Node) -> int:
    operator = node.operator
    assert isinstance(operator, Conv | Linear)
    return operator.out_channels if isinstance(operator, Conv) else operator.out_features


def _has_bias(node: Node) -> bool:
    operator = node.operator
    assert isinstance(operator, Conv | Linear)
    return operator.bias


# Shortcuts in a graph: what a sum adds to the branch's output, and what became of it on the way.


def shortcut_kind(way: Sequence[Node], source_shape: tuple[int, ...]) -> ShortcutKind:
    """What a shortcut is whose nodes, from the block's input (not with it) to the sum (not with it), are these."""
    operators = [node.operator for node in way]
    if any(isinstance(operator, Conv | Linear) for operator in operators):
        return ShortcutKind.PROJECTED
    if any(isinstance(operator, PoolOperation) for operator in operators) or _is_smaller(way, source_shape):
        return ShortcutKind.POOLED
    if any(isinstance(operator, Pad | Slice | Concat) for operator in operators):
        return ShortcutKind.PADDED
    if any(_changes_values(node) for node in way):
        return ShortcutKind.SCALED
    return ShortcutKind.IDENTITY


def _is_smaller(way: Sequence[Node], source_shape: tuple[int, ...]) -> bool:
    return any(len(node.shape) == 4 and node.shape[2:] < source_shape[2:] for node in way)


def _changes_values(node: Node) -> bool:
    if isinstance(node.operator, Pointwise):
        return name_activation(node.operator.function) != "none"
    return isinstance(node.operator, ChannelScale | Other) or bool(node.parameters)


# Attention in a graph: queries, keys and values of one map, their products, taken whole.


def is_attention(region: Sequence[Node]) -> bool:
    """Whether nodes between two points of a network are attention: products of two of its tensors, or softmax."""
    return any(isinstance(node.operator, Softmax | MatMul | Attention) for node in region)


def attention_unit(region: Sequence[Node], map_shape: tuple[int, ...], batch: int) -> AttentionUnit:
    """The block these nodes make on a map of shape `[B, C, H, W]`; its output projection is added by the caller."""
    weighted = [node for node in region if isinstance(node.operator, Conv | Linear)]
    return AttentionUnit(
        heads=_heads(region, map_shape),
        parameters=sum(node.parameters for node in region),
        macs=sum(node_macs(node, batch) for node in region),
        path=weighted[0].path if weighted else region[-1].path,
    )


def _heads(region: Sequence[Node], map_shape: tuple[int, ...]) -> int | None:
    """How many queries each place asks: rows of the attention weights (or of the answer) for each place of the map.

    Heads may be a dimension of their own, or stand below one another in one column; None when the shapes say neither.
    """
    seen = [node for node in region if isinstance(node.operator, Softmax | Attention)]
    if not seen or len(map_shape) != 4:
        return None
    rows = math.prod(seen[-1].shape[1:-1])
    heads, rest = divmod(rows, math.prod(map_shape[2:]))
    return None if rest or not heads else heads
