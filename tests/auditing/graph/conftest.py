"""Small modules in several styles, and the plain words for a graph that tests compare."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
from torch import nn

from mobilenets.auditing.graph.nodes import Attention, Conv, Graph, Linear, MatMul, Node, Pointwise, Reshape
from mobilenets.auditing.graph.probe import name_activation

Words = Callable[[Graph], list[str]]


def word(node: Node) -> str:
    operator = node.operator
    if isinstance(operator, Pointwise):
        return name_activation(operator.function)
    return type(operator).__name__


@pytest.fixture
def words() -> Words:
    """A graph as its operators' names, activations by their own."""
    return lambda graph: [word(node) for node in graph.nodes]


@pytest.fixture
def skeleton() -> Callable[[Graph], list[tuple[str, tuple[int, ...], str, int]]]:
    """What both ways of reading a module must agree on; below autograd views and casts differ."""
    return lambda graph: [
        (word(node), node.shape, node.path, node.parameters)
        for node in graph.nodes
        if not isinstance(node.operator, Reshape)
    ]


@pytest.fixture
def macs() -> Callable[[Graph], int]:
    """Multiply-adds by the graph's own operators."""

    def of(node: Node) -> int:
        operator = node.operator
        if isinstance(operator, Conv):
            return prod(node.shape) * operator.in_channels // operator.groups * prod(operator.kernel)
        if isinstance(operator, Linear):
            return prod(node.shape) * operator.in_features
        return operator.macs if isinstance(operator, (MatMul, Attention)) else 0

    return lambda graph: sum(of(node) for node in graph.nodes)


@pytest.fixture
def tiny() -> nn.Module:
    """Stem, depthwise, pool, classifier: 8 channels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8, 10),
    )
