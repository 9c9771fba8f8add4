"""One forward pass, recorded operation by operation without computing it.

The network is copied onto PyTorch's meta device, where tensors have shapes but no data: no memory is needed, whatever
the size, and the network itself (weights, buffers, training mode) is not touched.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mobilenets.auditing.graph.sandbox import REFUSALS, switch_mode
from mobilenets.errors import ModelError, first_line

aten = torch.ops.aten

# Of each matrix product, which argument is the left factor.
_LEFT_FACTOR = {aten.mm.default: 0, aten.bmm.default: 0, aten.addmm.default: 1, aten.baddbmm.default: 1}
_BATCH_NORM = {aten.native_batch_norm.default}
# PyTorch tags its elementwise operations, all but these.
_ELEMENTWISE = {aten.hardswish.default, aten.hardswish_.default}


@dataclass(frozen=True)
class Convolution:
    """The shape of a convolution: weight `[out, in / groups, kernel...]`, groups, stride."""

    weight_shape: tuple[int, ...]
    groups: int
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One tensor operation of eager PyTorch.

    Attributes:
        path: dotted path of the innermost module at work.
        reads: activation buffers it reads; a buffer is a number, views share their base's.
        writes: activation buffers its results are in; one it also reads is changed in place.
        macs: multiply-adds, of convolutions and matrix products only.
        parameters: elements of the parameters it uses.
        keeps_positions: each place of the result depends on the same place of the inputs only (norms, activations).
        is_norm: it is a batch norm.
        convolution: its shape, when it is one.
    """

    path: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    macs: int
    parameters: int
    keeps_positions: bool
    is_norm: bool
    convolution: Convolution | None


@dataclass(frozen=True)
class ModuleCall:
    """What a module returned: the shape of its (first) output tensor, and how often it ran."""

    output_shape: tuple[int, ...]
    calls: int


@dataclass(frozen=True)
class Trace:
    """The record of one forward pass.

    Attributes:
        operations: in order.
        buffer_bytes: size of each activation buffer in float32; the first `inputs` of them are the network's input.
        inputs: how many buffers the input takes.
        modules: by dotted path, in the order they first finished.
    """

    operations: tuple[Operation, ...]
    buffer_bytes: tuple[int, ...]
    inputs: int
    modules: dict[str, ModuleCall]


def trace(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Record one inference of `model` on a float32 tensor of `input_shape`.

    Raises:
        ModelError: the network can't take such an input; the message holds PyTorch's reason.
    """
    skeleton = _on_meta(model)
    switch_mode(skeleton, training=False)
    recorder = _Recorder(skeleton)
    try:
        images = torch.empty(tuple(input_shape), device="meta")
        recorder.add_input(images)
        with torch.no_grad(), recorder:
            skeleton(images)
    except REFUSALS as error:
        shape = " x ".join(map(str, input_shape))
        raise ModelError(f"{type(model).__name__} can't take an input of {shape}: {first_line(error)}") from error
    return Trace(tuple(recorder.operations), tuple(recorder.buffer_bytes), recorder.inputs, recorder.modules)


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy of the structure with float32 meta tensors: `deepcopy` finds each tensor's stand-in in its memo.

    So it finds empty stand-ins for the hooks: a caller's hook expects tensors with data, and at calls of its own.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(_meta_like(parameter), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _meta_like(buffer)
    for module in model.modules():
        memo[id(module._forward_hooks)] = OrderedDict()
        memo[id(module._forward_pre_hooks)] = OrderedDict()
    return copy.deepcopy(model, memo)


def _meta_like(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees every operation below autograd, and through hooks which module asked for it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.operations: list[Operation] = []
        self.buffer_bytes: list[int] = []
        self.inputs = 0
        self.modules: dict[str, ModuleCall] = {}
        self._stack: list[str] = [""]
        # Keyed by the storage itself: kept alive, so that no other can take its place.
        self._buffers: dict[torch.UntypedStorage, int] = {}
        self._parameters = {parameter.untyped_storage() for parameter in model.parameters()}
        self._constants = self._parameters | {buffer.untyped_storage() for buffer in model.buffers()}
        for path, module in model.named_modules():
            module.register_forward_pre_hook(self._enter(path))
            module.register_forward_hook(self._leave(path))

    def add_input(self, tensor: Tensor) -> None:
        self._buffer_of(tensor)
        self.inputs = len(self.buffer_bytes)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Batch norm also returns its statistics: empty in inference, but on the meta device they have a shape.
        outputs = list(_tensors(result))[: 1 if func in _BATCH_NORM else None]
        inputs = list(_tensors((args, kwargs)))
        self.operations.append(
            Operation(
                path=self._stack[-1],
                reads=self._activations(inputs),
                writes=self._activations(outputs),
                macs=_macs(func, args, result),
                parameters=sum(tensor.numel() for tensor in inputs if tensor.untyped_storage() in self._parameters),
                keeps_positions=torch.Tag.pointwise in func.tags or func in _ELEMENTWISE or func in _BATCH_NORM,
                is_norm=func in _BATCH_NORM,
                convolution=_convolution(func, args),
            )
        )
        return result

    def _activations(self, tensors: Sequence[Tensor]) -> tuple[int, ...]:
        return tuple(self._buffer_of(tensor) for tensor in tensors if tensor.untyped_storage() not in self._constants)

    def _buffer_of(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if storage not in self._buffers:
            self._buffers[storage] = len(self.buffer_bytes)
            self.buffer_bytes.append(storage.nbytes())
        return self._buffers[storage]

    def _enter(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._stack.append(path)

        return hook

    def _leave(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._stack.pop()
            first = next(_tensors(output), None)
            earlier = self.modules[path].calls if path in self.modules else 0
            self.modules[path] = ModuleCall(() if first is None else tuple(first.shape), earlier + 1)

        return hook


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _macs(func: Any, args: tuple[Any, ...], result: Any) -> int:
    if func is aten.convolution.default:
        data, weight, transposed = args[0], args[1], args[6]
        # Each output value (each input value, if transposed) costs one weight row [0].
        return int((data if transposed else result).numel() * weight[0].numel())
    if func in _LEFT_FACTOR:
        return int(args[_LEFT_FACTOR[func]].numel() * result.shape[-1])
    return 0


def _convolution(func: Any, args: tuple[Any, ...]) -> Convolution | None:
    if func is not aten.convolution.default or args[6]:
        return None
    return Convolution(tuple(args[1].shape), groups=int(args[8]), stride=tuple(args[3]))
