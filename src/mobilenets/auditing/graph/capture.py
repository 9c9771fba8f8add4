"""A PyTorch module as a graph, by whichever way works: torch.export, else a run under observation."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mobilenets.auditing.graph.hooks import hook_graph
from mobilenets.auditing.graph.nodes import Graph, Node, Pool
from mobilenets.auditing.graph.sandbox import REFUSALS, quiet
from mobilenets.auditing.graph.torch_export import export_graph
from mobilenets.errors import AuditError, first_line

# How much larger an image is that tells a pool of fixed size from one that follows the map: a step of the last map.
_LARGER = 64


def capture(module: nn.Module, input_shape: tuple[int, int, int, int]) -> Graph:
    """The graph of `module` in evaluation mode for an input `[B, C, H, W]`; the module is not touched.

    Raises:
        AuditError: neither way works; the message holds the module's own error.
    """
    with quiet():
        try:
            graph = export_graph(module, input_shape)
        except AuditError:
            raise
        except REFUSALS as error:
            graph = _by_hooks(module, input_shape, first_line(error))
        return _with_adaptive_pools(module, graph)


def _by_hooks(module: nn.Module, input_shape: tuple[int, int, int, int], reason: str) -> Graph:
    try:
        return hook_graph(module, input_shape, reason)
    except REFUSALS as error:
        size = " x ".join(map(str, input_shape))
        raise AuditError(
            f"{type(module).__name__} fails on an input of {size}: {first_line(error)}; "
            "choose the images it is for with `image_size`"
        ) from error


def _with_adaptive_pools(module: nn.Module, graph: Graph) -> Graph:
    """Tell `avg_pool2d(x, 7)` from `avg_pool2d(x, x.shape[2:])`: in a graph of fixed size both have the same window."""
    fixed = [node for node in graph.nodes if _covers_map(node, graph)]
    if not fixed:
        return graph
    batch, channels, height, width = graph.input_shape
    try:
        larger = hook_graph(module, (batch, channels, height + _LARGER, width + _LARGER))
    except REFUSALS:
        # It takes no other size: its windows are fixed.
        return graph
    pools, grown = _pools(graph), _pools(larger)
    if len(pools) != len(grown):
        return graph
    adaptive = {
        node.name
        for node, other in zip(pools, grown, strict=True)
        if node in fixed and _window(other) > _window(node) and _covers_map(other, larger)
    }
    return replace(graph, nodes=tuple(_made_adaptive(node) if node.name in adaptive else node for node in graph.nodes))


def _pools(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if isinstance(node.operator, Pool)]


def _window(node: Node) -> tuple[int, int]:
    assert isinstance(node.operator, Pool)
    return node.operator.window


def _covers_map(node: Node, graph: Graph) -> bool:
    operator = node.operator
    if not isinstance(operator, Pool) or operator.adaptive or not node.inputs or max(operator.window) == 1:
        return False
    shapes = {other.name: other.shape for other in graph.nodes} | {graph.input: graph.input_shape}
    return shapes[node.inputs[0]][2:] == operator.window


def _made_adaptive(node: Node) -> Node:
    assert isinstance(node.operator, Pool)
    return replace(node, operator=replace(node.operator, adaptive=True))
