"""A PyTorch module as a graph, by whichever way works: torch.export, else a run under observation."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map_only

from mobilenets.auditing.graph.hooks import hook_graph
from mobilenets.auditing.graph.nodes import Graph, Node, PoolOperation
from mobilenets.auditing.graph.recorder import Recorder
from mobilenets.auditing.graph.sandbox import REFUSALS, evaluation_copy, place_of_answer, quiet, tensors_of
from mobilenets.auditing.graph.values import Constant, Flowing, Recorded, eps_of
from mobilenets.errors import AuditError, first_line
from mobilenets.output_capture import capture_python_output

# A PyTorch module as a graph, by torch.export: the whole forward pass, whatever its code looks like.


def export_graph(module: nn.Module, input_shape: tuple[int, int, int, int]) -> Graph:
    """Capture `module` in evaluation mode for one input `[B, C, H, W]` float32; a copy is used, on the CPU.

    Operators are ATen's before autograd decomposes them, so that a convolution, a norm and a dropout are what the user
    wrote. A node's path is that of the innermost module that asked for it.

    Raises:
        AuditError: the module can't be copied.
        Exception: whatever torch.export or the module's own code raises; `capture` turns to hooks then.
    """
    network = evaluation_copy(module)
    _answer_in_tensors(network)
    with capture_python_output(), torch.no_grad():
        program = torch.export.export(network, (torch.zeros(input_shape),), strict=False)
    recorder = Recorder(network, input_shape)
    translator = _Translator(program, network, recorder)
    with torch.no_grad():
        return recorder.graph(translator.run(), "torch.export")


def _answer_in_tensors(network: nn.Module) -> None:
    """Let `forward` return a tuple of tensors: torch.export knows no records of someone else's making.

    A hook on the network itself expects what its forward returns, so such a network is left as it is.
    """
    forward = network.forward
    if network._forward_hooks:
        return

    @functools.wraps(forward)
    def plain(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        return outputs if isinstance(outputs, Tensor) else tuple(tensors_of(outputs))

    network.forward = plain


class _Translator:
    """Walks the exported program and hands its calls to the recorder."""

    def __init__(self, program: ExportedProgram, network: nn.Module, recorder: Recorder) -> None:
        self._program = program
        self._recorder = recorder
        self._values: dict[fx.Node, Any] = {}
        signature = program.graph_signature
        state: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
        state |= dict(network.named_buffers(remove_duplicate=False))
        tensors = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        # Values come from the copy itself: the recorder knows its parameters by identity.
        self._tensors = {
            name: state[target] if target in state else _stored(program, target) for name, target in tensors.items()
        }

    def run(self) -> Recorded:
        """Translate every node; what the answer is."""
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                tensor = self._tensors.get(node.name)
                self._values[node] = self._recorder.input if tensor is None else self._recorder.constant(tensor)
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                answers = [leaf for leaf in tree_leaves(self._mapped(node.args)) if isinstance(leaf, Flowing)]
                if not answers:
                    return self._recorder.input
                outputs = [(answer.name, answer.shape) for answer in answers]
                return answers[place_of_answer(outputs, self._recorder.nodes)]
        raise AssertionError("an exported program ends with its output")

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = self._mapped(node.args), self._mapped(node.kwargs)
        if node.target is operator.getitem:
            return args[0][args[1]]
        if not isinstance(node.target, OpOverload):
            return None
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]
        if not shapes:
            return None
        results = self._recorder.call(node.target, args, kwargs, shapes, _path(node))
        if results is None:
            return self._constant(node.target, args, kwargs)
        return results if isinstance(node.meta["val"], (list, tuple)) else results[0]

    def _constant(self, function: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Compute what does not depend on the input: a masked weight, a batch norm's scale written out."""
        sources = self._recorder.sources((args, kwargs))
        plain = tree_map_only(Constant, lambda value: value.value, (args, kwargs))
        # Of `zeros_like(x)` only the shape of x matters.
        plain = tree_map_only(Flowing, lambda value: torch.zeros(value.shape), plain)
        eps = eps_of(function, args, kwargs)
        return tree_map_only(Tensor, lambda tensor: Constant(tensor, sources, eps), function(*plain[0], **plain[1]))

    def _mapped(self, tree: Any) -> Any:
        return fx.node.map_arg(tree, lambda node: self._values[node])


def _stored(program: ExportedProgram, target: str) -> Tensor:
    value = program.constants[target]
    assert isinstance(value, Tensor)
    return value


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    # A module that runs again is numbered: `act@1`.
    return str(path).partition("@")[0]


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
    return [node for node in graph.nodes if isinstance(node.operator, PoolOperation)]


def _window(node: Node) -> tuple[int, int]:
    assert isinstance(node.operator, PoolOperation)
    return node.operator.window


def _covers_map(node: Node, graph: Graph) -> bool:
    operator = node.operator
    if not isinstance(operator, PoolOperation) or operator.adaptive or not node.inputs or max(operator.window) == 1:
        return False
    shapes = {other.name: other.shape for other in graph.nodes} | {graph.input: graph.input_shape}
    return shapes[node.inputs[0]][2:] == operator.window


def _made_adaptive(node: Node) -> Node:
    assert isinstance(node.operator, PoolOperation)
    return replace(node, operator=replace(node.operator, adaptive=True))
