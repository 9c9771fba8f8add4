"""Tidying a recorded graph: nodes nobody reads are dropped, scale and shift per channel become one normalization."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from mobilenets.auditing.graph.nodes import ChannelScale, Node, Norm


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
    """Make one affine `Norm` of a run of per-channel factors and shifts: a batch norm written by hand, or frozen.

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
