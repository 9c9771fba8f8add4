"""Squeeze-and-excitation in a graph: a product of a map with a gate computed from its own mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

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
from mobilenets.auditing.structure.layers import AttentionUnit, ShortcutKind, SqueezeExcite
from mobilenets.auditing.structure.wiring import node_macs


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
