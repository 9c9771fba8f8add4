"""What changes nothing for a folded network is taken out of its graph, and what is one function becomes one node.

Reshapes and dropout vanish (dropout is remembered), zero padding moves into the convolution behind it, and the pieces
of a function of one value, such as `x * relu6(x + 3) / 6`, become a single `Pointwise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mobilenets.auditing.graph.nodes import (
    Add,
    Conv,
    Dropout,
    Graph,
    Multiply,
    Node,
    Other,
    Pad,
    Pointwise,
    PoolOperation,
    Reshape,
    Slice,
    Values,
)
from mobilenets.auditing.structure.wiring import DropoutPlace, Wiring, readers_of

Function = Callable[[Values], Values]


@dataclass(frozen=True)
class _Draft:
    """Nodes on their way, with the output's present name."""

    nodes: tuple[Node, ...]
    output: str


def simplify(graph: Graph) -> Wiring:
    """Take out of the graph what does not change the network, and sort what does not lead to its output apart."""
    draft, dropouts = _without_layout(graph)
    draft = _with_means_joined(draft, tuple(graph.input_shape))
    draft = _with_padding_merged(draft)
    draft = _with_functions_composed(draft)
    live = _leading_to(draft)
    return Wiring(
        nodes={node.name: node for node in draft.nodes if node.name in live},
        input=graph.input,
        input_shape=graph.input_shape,
        output=draft.output,
        dropouts=dropouts,
        dead=tuple(node for node in draft.nodes if node.name not in live),
    )


def _without_layout(graph: Graph) -> tuple[_Draft, tuple[DropoutPlace, ...]]:
    alias: dict[str, str] = {}
    kept: list[Node] = []
    dropouts: list[DropoutPlace] = []
    shapes = {graph.input: tuple(graph.input_shape), **{node.name: node.shape for node in graph.nodes}}
    for node in graph.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if isinstance(node.operator, Dropout) and inputs:
            dropouts.append(DropoutPlace(node.operator.rate, node.operator.whole, inputs[0], node.path))
        if inputs and _keeps_values(node, shapes):
            alias[node.name] = inputs[0]
        else:
            kept.append(replace(node, inputs=inputs))
    return _Draft(tuple(kept), alias.get(graph.output, graph.output)), tuple(dropouts)


def _keeps_values(node: Node, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the node passes its input on: another layout, dropout at rest, a slice or pad of nothing."""
    match node.operator:
        case Reshape() | Dropout():
            return True
        case Slice(steps=steps):
            return all(step == 1 for step in steps) and node.shape == shapes.get(node.inputs[0])
        case Pad(padding=padding, channels=channels):
            return not any(padding) and not any(channels)
    return False


def _with_means_joined(draft: _Draft, input_shape: tuple[int, ...]) -> _Draft:
    """Make one pool of two that take the rows and the columns of a map in turn: `x.mean(3).mean(2)`."""
    nodes = {node.name: node for node in draft.nodes}
    readers = readers_of(draft.nodes)
    for node in draft.nodes:
        before = nodes.get(node.inputs[0]) if len(node.inputs) == 1 else None
        if before is None or len(readers[before.name]) != 1 or len(before.inputs) != 1:
            continue
        source = nodes.get(before.inputs[0])
        pool = _joined_pool(before, node, input_shape if source is None else source.shape)
        if pool is not None:
            nodes[node.name] = replace(node, operator=pool, inputs=before.inputs)
            del nodes[before.name]
    return _Draft(tuple(nodes.values()), draft.output)


def _joined_pool(first: Node, second: Node, shape: tuple[int, ...]) -> PoolOperation | None:
    """The pool of a whole map of this shape that two pools come to, each along one side; None if they don't."""
    one, other = first.operator, second.operator
    if (
        not isinstance(one, PoolOperation)
        or not isinstance(other, PoolOperation)
        or one.kind != other.kind
        or len(shape) != 4
    ):
        return None
    height, width = shape[2:]
    lines = max(one.window) > 1 and sorted(one.window) == [1, max(one.window)] and max(one.window) in (height, width)
    covered = math.prod(one.window) * math.prod(other.window) == height * width
    if not lines or not covered or math.prod(second.shape[2:]) != 1 or any((*one.padding, *other.padding)):
        return None
    return PoolOperation(one.kind, (height, width), (height, width), (0, 0, 0, 0), one.adaptive and other.adaptive)


def _with_padding_merged(draft: _Draft) -> _Draft:
    """Move padding around the map into the convolutions and pools behind it, when nothing else reads it."""
    nodes = {node.name: node for node in draft.nodes}
    readers = readers_of(draft.nodes)
    shapes = {node.name: node.shape for node in draft.nodes}
    for pad in draft.nodes:
        amount = _map_padding(pad, shapes)
        behind = [nodes[name] for name in readers.get(pad.name, ())]
        if amount is None or not behind or not all(isinstance(node.operator, Conv | PoolOperation) for node in behind):
            continue
        source = nodes[pad.name].inputs[0]
        for node in behind:
            nodes[node.name] = _padded(node, amount, pad.name, source)
        del nodes[pad.name]
    return _Draft(tuple(nodes.values()), draft.output)


def _map_padding(node: Node, shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, int, int] | None:
    """Rows and columns that the node puts around its map; None for a node that does something else."""
    if isinstance(node.operator, Pad) and not any(node.operator.channels):
        return node.operator.padding
    # A pad of another kind than zeros (a blur reflects the border): the shapes say how much.
    before = shapes.get(node.inputs[0]) if len(node.inputs) == 1 else None
    if isinstance(node.operator, Other) and "pad" in node.operator.label.lower() and before and len(before) == 4:
        high, wide = node.shape[2] - before[2], node.shape[3] - before[3]
        if node.shape[:2] == before[:2] and high >= 0 and wide >= 0:
            return high // 2, high - high // 2, wide // 2, wide - wide // 2
    return None


def _padded(node: Node, amount: Sequence[int], pad: str, source: str) -> Node:
    operator = node.operator
    assert isinstance(operator, Conv | PoolOperation)
    top, bottom, left, right = (own + more for own, more in zip(operator.padding, amount, strict=True))
    inputs = tuple(source if name == pad else name for name in node.inputs)
    return replace(node, operator=replace(operator, padding=(top, bottom, left, right)), inputs=inputs)


def _with_functions_composed(draft: _Draft) -> _Draft:
    """Turn the pieces of a function of one value into one `Pointwise` node, as often as that finds something."""
    while True:
        composed = _compose_once(draft)
        if composed == draft:
            return draft
        draft = composed


def _compose_once(draft: _Draft) -> _Draft:
    nodes = {node.name: node for node in draft.nodes}
    readers = readers_of(draft.nodes)
    swallowed: set[str] = set()
    for name in list(nodes):
        found = _as_function(nodes[name], nodes, readers)
        if found is not None:
            whole, pieces = found
            nodes[name] = whole
            swallowed.update(pieces)
    return _Draft(tuple(node for node in nodes.values() if node.name not in swallowed), draft.output)


def _as_function(
    node: Node, nodes: dict[str, Node], readers: dict[str, tuple[str, ...]]
) -> tuple[Node, tuple[str, ...]] | None:
    """The node as a function of an earlier value than it reads, and the nodes that swallows."""
    if isinstance(node.operator, Pointwise) and len(node.inputs) == 1:
        piece = _own_function(node.inputs[0], nodes, readers)
        if piece is None:
            return None
        function = _after(piece.function, node.operator.function)
        operator = Pointwise(f"{piece.label}, {node.operator.label}", function)
        return _merged(node, operator, (node.inputs[0],), nodes)
    if not isinstance(node.operator, Add | Multiply) or len(node.inputs) != 2:
        return None
    return _product_with_itself(node, nodes, readers)


def _product_with_itself(
    node: Node, nodes: dict[str, Node], readers: dict[str, tuple[str, ...]]
) -> tuple[Node, tuple[str, ...]] | None:
    """`x * f(x)` (or a sum) as one function: both operands are the same value, or functions of it that are used
    nowhere else."""
    first, second = node.inputs
    roots: list[dict[str, Function]] = []
    for operand in (first, second):
        # What the operand is a function of: itself, and what it was made of.
        ways: dict[str, Function] = {operand: _identity}
        piece = _own_function(operand, nodes, readers)
        if piece is not None:
            ways[nodes[operand].inputs[0]] = piece.function
        roots.append(ways)
    common = next((root for root in roots[0] if root in roots[1]), None)
    if common is None:
        return None
    function = _combined(roots[0][common], roots[1][common], product=isinstance(node.operator, Multiply))
    pieces = tuple(dict.fromkeys(operand for operand in (first, second) if operand != common))
    whole, swallowed = _merged(node, Pointwise("product" if pieces else "square", function), pieces, nodes)
    return replace(whole, inputs=(common,)), swallowed


def _own_function(name: str, nodes: dict[str, Node], readers: dict[str, tuple[str, ...]]) -> Pointwise | None:
    """The function a node computes, when it is one of a single value and has one reader: then it can be merged."""
    node = nodes.get(name)
    if node is None or len(readers[name]) != 1 or len(node.inputs) != 1:
        return None
    return node.operator if isinstance(node.operator, Pointwise) else None


def _merged(
    node: Node, operator: Pointwise, pieces: tuple[str, ...], nodes: dict[str, Node]
) -> tuple[Node, tuple[str, ...]]:
    parameters = node.parameters + sum(nodes[piece].parameters for piece in pieces)
    inputs = nodes[pieces[0]].inputs if pieces else node.inputs[:1]
    return replace(node, operator=operator, inputs=inputs, parameters=parameters), pieces


def _identity(values: Values) -> Values:
    return values


def _after(first: Function, second: Function) -> Function:
    return lambda values: second(first(values))


def _combined(first: Function, second: Function, *, product: bool) -> Function:
    if product:
        return lambda values: first(values) * second(values)
    return lambda values: first(values) + second(values)


def _leading_to(draft: _Draft) -> set[str]:
    nodes = {node.name: node for node in draft.nodes}
    live: set[str] = set()
    queue = [draft.output]
    while queue:
        name = queue.pop()
        if name in nodes and name not in live:
            live.add(name)
            queue.extend(nodes[name].inputs)
    return live
