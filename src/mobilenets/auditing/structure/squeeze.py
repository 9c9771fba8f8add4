"""Squeeze-and-excitation in a graph: a product of a map with a gate computed from its own mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mobilenets.auditing.graph.nodes import Conv, Linear, Node, Norm, Pointwise, Pool
from mobilenets.auditing.graph.probe import name_activation
from mobilenets.auditing.structure.cost import squeeze_cost
from mobilenets.auditing.structure.layers import SqueezeExcite


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
            case Pool() if math.prod(node.shape[2:]) == 1:
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
    return isinstance(operator, Pool) and operator.kind == "average" and math.prod(node.shape[2:]) == 1


def _fixed_window(pool: Node) -> int:
    operator = pool.operator
    assert isinstance(operator, Pool)
    return 0 if operator.adaptive else max(operator.window)


def _width(node: Node) -> int:
    operator = node.operator
    assert isinstance(operator, Conv | Linear)
    return operator.out_channels if isinstance(operator, Conv) else operator.out_features


def _has_bias(node: Node) -> bool:
    operator = node.operator
    assert isinstance(operator, Conv | Linear)
    return operator.bias
