"""What a module shows when it is run: switches that don't switch, batches that leak, shortcuts that don't pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mobilenets.auditing.graph.hooks import HookRun, random_images
from mobilenets.auditing.graph.nodes import Add, Behaviour, Conv, Dropout, Graph, Linear, Node, Norm
from mobilenets.auditing.graph.sandbox import REFUSALS, evaluation_copy, quiet, switch_mode, tensors_of
from mobilenets.auditing.graph.values import Flowing, writes_in_place
from mobilenets.errors import first_line

# Two runs of the same sums may differ by rounding, when they are cut into other pieces.
_TOLERANCE = 1e-4
# A step of the last map: every stride of the family divides it.
_LARGER = 32
# Small, yet with more than one place in the last map.
_QUICK = 96


def observe(module: nn.Module, graph: Graph, input_shape: tuple[int, int, int, int]) -> Behaviour:
    """Run copies of `module` on a few noise images and say what its graph can't show.

    Args:
        module: the network; neither its weights nor its mode is changed.
        graph: of it, from `capture`.
        input_shape: `[B, C, H, W]` it takes; smaller images are used where it takes them too.

    Raises:
        AuditError: the module can't be copied.
    """
    network = evaluation_copy(module)
    input_shape = _smallest(network, input_shape)
    images = random_images((3, *input_shape[1:]))
    first, other = images[:2], images[[0, 2]]
    with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        answers = [_answer(network, batch) for batch in (first, first, other)]
        fixed_size = _failure_on_larger(network, input_shape)
        dead_shortcuts = _dead_shortcuts(network, graph, input_shape)
        known = Behaviour(training_paths(graph), fixed_size=fixed_size, dead_shortcuts=dead_shortcuts)
        once, again, beside = answers
        if once is None or again is None or beside is None:
            # It takes one image a call only: what needs two can't be probed.
            return known
        # Where an answer is NaN both times, that is the weights' doing.
        varies = not torch.equal(once.nan_to_num(), again.nan_to_num())
        frozen, held = _norms_in_training(network, graph, first)
        return replace(
            known,
            varies=varies,
            depends_on_batch=not varies and not _near(once[0], beside[0]),
            frozen_norms=frozen,
            held_norms=held,
        )


def _smallest(network: nn.Module, input_shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """A quick size, where the network takes it: what is probed here does not depend on the size."""
    batch, channels, height, width = input_shape
    if min(height, width) <= _QUICK:
        return input_shape
    quick = (batch, channels, _QUICK, _QUICK)
    with quiet(), torch.no_grad():
        return input_shape if _answer(network, random_images(quick)) is None else quick


def _answer(network: nn.Module, images: Tensor) -> Tensor | None:
    """What a network answers with, one row an image, its outputs side by side; None when it fails or has other rows."""
    try:
        outputs = list(tensors_of(network(images)))
    except REFUSALS:
        return None
    rows = [tensor for tensor in outputs if tensor.dim() and tensor.is_floating_point() and len(tensor) == len(images)]
    return torch.cat([tensor.reshape(len(images), -1).float() for tensor in rows], dim=1) if rows else None


def _near(one: Tensor, other: Tensor) -> bool:
    if not one.numel():
        return True
    one, other = one.nan_to_num(), other.nan_to_num()
    scale = float(one.abs().max().clamp(min=1e-6))
    return bool(((one - other).abs() <= _TOLERANCE * scale).all())


def training_paths(graph: Graph) -> tuple[str, ...]:
    """The graph is one of evaluation mode: an active dropout or a norm of the batch did not listen to `eval()`."""
    return tuple(
        node.path
        for node in graph.nodes
        if (isinstance(node.operator, Dropout) and node.operator.active and node.operator.rate > 0)
        or (isinstance(node.operator, Norm) and node.operator.uses_batch)
    )


def _failure_on_larger(network: nn.Module, input_shape: tuple[int, int, int, int]) -> str | None:
    _, channels, height, width = input_shape
    try:
        network(random_images((1, channels, height + _LARGER, width + _LARGER)))
    except REFUSALS as error:
        return first_line(error)
    return None


def _norms_in_training(network: nn.Module, graph: Graph, images: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Norms at work whose statistics a training step leaves as they were, and those the code keeps in evaluation mode.

    The step changes `network`, a copy: nothing can be probed afterwards.
    """
    switch_mode(network, training=True)
    at_work = {node.path for node in graph.nodes}
    norms = {
        path: module
        for path, module in network.named_modules()
        if path in at_work and isinstance(getattr(module, "running_mean", None), Tensor)
    }
    held = tuple(path for path, module in norms.items() if not module.training)
    before = {path: _statistics(module) for path, module in norms.items()}
    try:
        network(images)
    except REFUSALS:
        # Training may need more than two images; then nothing is known.
        return (), held
    still = (path for path, module in norms.items() if torch.equal(before[path], _statistics(module)))
    return tuple(path for path in still if path not in held), held


def _statistics(module: nn.Module) -> Tensor:
    buffers = [getattr(module, name) for name in ("running_mean", "running_var")]
    return torch.cat([buffer.flatten().clone() for buffer in buffers if isinstance(buffer, Tensor)])


def _dead_shortcuts(network: nn.Module, graph: Graph, input_shape: tuple[int, int, int, int]) -> tuple[str, ...]:
    """Sums where, with zeros for the branch, the block's input does not come out.

    The sum is found again in an observed run, in the same order. Shortcuts of another shape than the block's input
    (pooled, projected) are left out: the graph shows them.
    """
    sums = [node for node in graph.nodes if isinstance(node.operator, Add)]
    if not sums:
        return ()
    probe = _ZeroedBranches()
    run = HookRun(network, (1, *input_shape[1:]), probe)
    try:
        run.run(random_images((1, *input_shape[1:])))
    except REFUSALS:
        return ()
    if len(probe.passes) != len(sums):
        # The run took another way than the captured graph.
        return ()
    return tuple(node.path or node.name for node, passed in zip(sums, probe.passes, strict=True) if passed is False)


class _ZeroedBranches:
    """Watches a run; at every sum of two tensors it also adds zeros in place of the branch.

    `passes`, one a sum: whether the block's input came out; None where there is no shortcut to speak of.
    """

    def __init__(self) -> None:
        self.passes: list[bool | None] = []
        self._values: dict[str, Tensor] = {}

    def __call__(self, run: HookRun, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        tensors = [argument for argument in args if isinstance(argument, Tensor)]
        values = [(tensor, run.value(tensor)) for tensor in tensors]
        for tensor, value in values:
            # Its value now: an in-place operator may soon write something else there.
            if isinstance(value, Flowing):
                self._values[value.name] = tensor.clone() if writes_in_place(function) else tensor
        flowing = [(tensor, value) for tensor, value in values if isinstance(value, Flowing)]
        if function._schema.name.rstrip("_") == "aten::add" and len(flowing) == 2:
            # `add(x, y, alpha=a)` is x + a y.
            (first, one), (second, other) = flowing
            self.passes.append(self._passes(run, [(first, one), (second * kwargs.get("alpha", 1), other)]))

    def _passes(self, run: HookRun, terms: list[tuple[Tensor, Flowing]]) -> bool | None:
        nodes = {node.name: node for node in run.recorder.nodes}
        ancestors = [_ancestors(value.name, nodes) for _, value in terms]
        common = [name for name in nodes if name in ancestors[0] and name in ancestors[1]]
        if not common or common[-1] not in self._values:
            return None
        start = set(ancestors[0]) & set(ancestors[1])
        weighty = [_filters(names - start, nodes) for names in ancestors]
        if weighty[0] == weighty[1]:
            return None
        shortcut, entered = terms[weighty.index(False)][0], self._values[common[-1]]
        return None if shortcut.shape != entered.shape else bool(torch.equal(shortcut, entered))


def _ancestors(name: str, nodes: Mapping[str, Node]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found and current in nodes:
            found.add(current)
            waiting.extend(nodes[current].inputs)
    return found


def _filters(names: set[str], nodes: Mapping[str, Node]) -> bool:
    return any(isinstance(nodes[name].operator, (Conv, Linear)) for name in names)
