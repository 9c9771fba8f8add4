"""Shortcuts in a graph: what a sum adds to the branch's output, and what became of it on the way."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenets.auditing.graph.nodes import ChannelScale, Concat, Conv, Linear, Node, Other, Pad, Pointwise, Pool, Slice
from mobilenets.auditing.graph.probe import name_activation
from mobilenets.auditing.structure.layers import ShortcutKind


def shortcut_kind(way: Sequence[Node], source_shape: tuple[int, ...]) -> ShortcutKind:
    """What a shortcut is whose nodes, from the block's input (not with it) to the sum (not with it), are these."""
    operators = [node.operator for node in way]
    if any(isinstance(operator, Conv | Linear) for operator in operators):
        return ShortcutKind.PROJECTED
    if any(isinstance(operator, Pool) for operator in operators) or _is_smaller(way, source_shape):
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
