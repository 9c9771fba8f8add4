"""A copy of someone's module that can be run without touching theirs, and someone's code run without touching ours."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from mobilenets.auditing.graph.nodes import Conv, Linear, Node
from mobilenets.errors import AuditError, first_line
from mobilenets.output_capture import print_to_stderr

REFUSALS = (Exception, SystemExit, GeneratorExit)
"""How someone's code fails: with anything. Only Ctrl-C (and what else ends a program from outside) is not theirs."""

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_QUANTIZED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A deep copy on the CPU, in float32 and evaluation mode.

    What wraps a network to run it elsewhere (`torch.compile`, `DataParallel`) is left out: compiling for a few images
    would take minutes. Weights on the meta device, which have no values, become noise.

    Raises:
        AuditError: the module can't be copied, or is TorchScript or quantized.
    """
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise AuditError(
            f"{name} is TorchScript, whose graph can't be read: "
            "audit the Python module it was made from, or an ONNX export of that"
        )
    with quiet():
        quantized = _quantized_layer(module)
        if quantized is not None:
            raise AuditError(
                f"{name} is quantized (it holds {quantized} of torch.ao): "
                "audit the float network it was converted from, or its ONNX or TensorFlow Lite file"
            )
        try:
            network = _copied(_without_wrapper(module))
            network.cpu()
            network.float()
        except REFUSALS as error:
            raise AuditError(
                f"{name} can't be copied for the audit ({type(error).__name__}: {first_line(error)}); "
                "build it without what copy.deepcopy refuses"
            ) from error
        switch_mode(network, training=False)
    return network


def switch_mode(network: nn.Module, *, training: bool) -> str | None:
    """`network.train()` or `network.eval()`; where their own override of it fails, set every module's flag instead.

    An override need not return the network, as PyTorch's does.

    Returns:
        Why the override failed; None where it did not.
    """
    with quiet():
        try:
            if training:
                network.train()
            else:
                network.eval()
        except REFUSALS as error:
            for module in network.modules():
                module.training = training
            return f"{type(error).__name__}: {first_line(error)}"
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what someone's code says and sets to itself.

    What it prints goes to stderr, as stdout belongs to the answer. Its warnings and log lines are dropped, and what it
    sets for the whole process while it is imported or run (logging, warning filters, PyTorch's default type and device,
    gradients) is as before afterwards.
    """
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    try:
        with print_to_stderr():
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


def _quantized_layer(module: nn.Module) -> str | None:
    """The kind of its first layer with integer weights; only PyTorch's own integer kernels run it."""
    kinds = (type(part) for part in module.modules())
    return next((kind.__name__ for kind in kinds if kind.__module__.startswith(_QUANTIZED)), None)


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy; what can't be copied in it is shared, and what has no values gets some."""
    memo: dict[int, Any] = {id(tensor): _with_values(tensor) for tensor in _tensors(module) if _is_bare(tensor)}
    try:
        network = copy.deepcopy(module, dict(memo))
    except REFUSALS:
        network = copy.deepcopy(module, memo | _uncopyable(module))
    _run_plainly(network)
    return network


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _is_bare(tensor: Tensor) -> bool:
    return tensor.is_meta and not isinstance(tensor, UninitializedParameter)


def _with_values(tensor: Tensor) -> Tensor:
    """Small noise for a weight without values, ones for a buffer (a variance must be positive)."""
    if isinstance(tensor, nn.Parameter):
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu")
        return nn.Parameter(0.1 * noise, requires_grad=tensor.requires_grad)
    return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu")


def _uncopyable(module: nn.Module) -> dict[int, Any]:
    """A memo for `deepcopy`: locks and open files stay what they are, computed tensors leave their history behind."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
            elif not isinstance(value, Tensor | dict):
                try:
                    copy.deepcopy(value)
                except REFUSALS:
                    memo[id(value)] = value
    return memo


def _without_wrapper(module: nn.Module) -> nn.Module:
    """What a network's `torch.compile` and data-parallel wrappers hold; without them it is a network like any other."""
    while True:
        if _is_compiled(module):
            module = module._orig_mod  # type: ignore[assignment]  # torch leaves it untyped
        elif isinstance(module, _PARALLEL):
            module = module.module
        else:
            return module


def _run_plainly(network: nn.Module) -> None:
    """Replace compiled parts by what they wrap, and let data-parallel ones run their module where it is."""
    for part in list(network.modules()):
        if isinstance(part, nn.DataParallel):
            part.device_ids = []
        for name, child in list(part.named_children()):
            if _is_compiled(child):
                setattr(part, name, _without_wrapper(child))


def _is_compiled(module: nn.Module) -> bool:
    """Where the compiler was never loaded, nothing is compiled."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    return frames is not None and isinstance(module, frames.OptimizedModule)


# Which of a network's outputs is its answer, in whatever container and at whatever position it is returned.


_DEEPEST = 8
"""Containers within containers that are looked into: an output that holds itself must end."""


def tensors_of(outputs: Any, depth: int = _DEEPEST) -> Iterator[Tensor]:
    """The tensors in what `forward` returns, in order: of tuples, dictionaries, dataclasses and other records."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif depth:
        for part in _parts(outputs):
            yield from tensors_of(part, depth - 1)


def _parts(outputs: Any) -> Sequence[Any]:
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    if isinstance(outputs, list | tuple | set):
        return list(outputs)
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return [getattr(outputs, field.name) for field in fields(outputs)]
    if isinstance(outputs, str | bytes | type) or callable(outputs):
        return []
    return list(getattr(outputs, "__dict__", {}).values())


def place_of_answer(outputs: Sequence[tuple[str, tuple[int, ...]]], nodes: Sequence[Node]) -> int:
    """Which of several outputs is the answer: among vectors, else among maps, the one most layers lead to.

    A classifier's logits lie behind its features and an auxiliary head leaves before the last layers, wherever either
    stands among the outputs; of logits and their softmax the less processed is taken, of equals the first. A backbone's
    last map is the one most layers lead to.

    Args:
        outputs: name of the node and shape of each, at least one.
        nodes: of the graph, in order of execution.
    """
    vectors = [place for place, (_, shape) in enumerate(outputs) if _is_vector(shape)]
    maps = [place for place, (_, shape) in enumerate(outputs) if len(shape) > 1]
    candidates = vectors or maps or list(range(len(outputs)))
    if len(candidates) == 1:
        return candidates[0]
    known = {node.name: node for node in nodes}
    ranks = {place: _behind(outputs[place][0], known) for place in candidates}
    return max(candidates, key=lambda place: (ranks[place], -place))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))


def _behind(name: str, nodes: Mapping[str, Node]) -> tuple[int, int]:
    """How many layers with weights an output lies behind, and minus how many nodes."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in nodes and current not in seen:
            seen.add(current)
            waiting.extend(nodes[current].inputs)
    return sum(isinstance(nodes[one].operator, Conv | Linear) for one in seen), -len(seen)
