"""Attention in a graph: queries, keys and values of one map, their products, taken whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mobilenets.auditing.graph.nodes import Attention, Conv, Linear, MatMul, Node, Softmax
from mobilenets.auditing.structure.convolutions import node_macs
from mobilenets.auditing.structure.layers import AttentionUnit


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
