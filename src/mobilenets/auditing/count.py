"""What a network is made of and costs: `count(model)`, layer by layer and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from numbers import Integral
from typing import Any

from torch import nn

from mobilenets.auditing.trace import Convolution, Operation, Trace, trace
from mobilenets.errors import ModelError
from mobilenets.models.network import MobileNet

# What depthwise separable convolutions save, by the formula of the first MobileNet paper.
#
# A depthwise K x K filter on C channels and a pointwise mix to D channels cost H·W·(C·K² + C·D) multiply-adds; the
# standard convolution they stand for H·W·C·D·K². The ratio is 1/D + 1/K². Source: Howard et al. 2017 (arXiv
# 1704.04861),
# section 3.1.


@dataclass(frozen=True)
class SeparablePair:
    """A depthwise convolution, the pointwise one that reads its result, and the standard one they replace.

    Attributes:
        depthwise: dotted path of the depthwise convolution.
        pointwise: dotted path of the pointwise convolution.
        in_channels: channels the depthwise convolution reads.
        out_channels: channels the pointwise convolution writes.
        kernel: of the depthwise convolution, height and width.
        macs: multiply-adds of the two.
        standard_macs: multiply-adds of one standard convolution with this kernel and stride in their place.
        parameters: of the two and of the batch norm on the depthwise result, if there is one.
        standard_parameters: of the standard convolution; no second batch norm is needed.
    """

    depthwise: str
    pointwise: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    macs: int
    standard_macs: int
    parameters: int
    standard_parameters: int

    @property
    def ratio(self) -> float:
        """Separable over standard multiply-adds: 1 / out_channels + 1 / K²."""
        return self.macs / self.standard_macs


@dataclass(frozen=True)
class _Depthwise:
    """A depthwise convolution on its way to a pointwise one; `parameters` include the batch norms met so far."""

    operation: Operation
    filters: Convolution
    parameters: int


def separable_pairs(operations: Sequence[Operation]) -> tuple[SeparablePair, ...]:
    """The pairs of a recorded network, in order.

    What stands between the two may be norms, activations and channel attention: anything that leaves positions where
    they are. A module that runs more than once has one entry, with the multiply-adds of all its runs.
    """
    pairs: dict[tuple[str, str], SeparablePair] = {}
    waiting: dict[int, _Depthwise] = {}  # by the buffer that holds its result
    for operation in operations:
        source = next((waiting[buffer] for buffer in operation.reads if buffer in waiting), None)
        for buffer in operation.writes:
            waiting.pop(buffer, None)
        shape = operation.convolution
        if shape is not None and _is_depthwise(shape):
            waiting.update(dict.fromkeys(operation.writes, _Depthwise(operation, shape, operation.parameters)))
        elif shape is not None and source is not None and _is_pointwise(shape):
            pair = _pair(source, operation, shape)
            key = (pair.depthwise, pair.pointwise)
            pairs[key] = _add(pairs[key], pair) if key in pairs else pair
        elif source is not None and operation.keeps_positions:
            norm_parameters = operation.parameters if operation.is_norm else 0
            carried = replace(source, parameters=source.parameters + norm_parameters)
            waiting.update(dict.fromkeys(operation.writes, carried))
    return tuple(pairs.values())


def _is_depthwise(convolution: Convolution) -> bool:
    _, in_per_group, *kernel = convolution.weight_shape
    return convolution.groups > 1 and in_per_group == 1 and prod(kernel) > 1


def _is_pointwise(convolution: Convolution) -> bool:
    return convolution.groups == 1 and prod(convolution.weight_shape[2:]) == 1 and prod(convolution.stride) == 1


def _pair(depthwise: _Depthwise, pointwise: Operation, mix: Convolution) -> SeparablePair:
    filters = depthwise.filters
    in_channels, out_channels, kernel = filters.groups, mix.weight_shape[0], filters.weight_shape[2:]
    standard_weights = in_channels * out_channels * prod(kernel)
    positions = depthwise.operation.macs // prod(filters.weight_shape)
    bias = pointwise.parameters - prod(mix.weight_shape)
    return SeparablePair(
        depthwise=depthwise.operation.path,
        pointwise=pointwise.path,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=kernel,
        macs=depthwise.operation.macs + pointwise.macs,
        standard_macs=positions * standard_weights,
        parameters=depthwise.parameters + pointwise.parameters,
        standard_parameters=standard_weights + bias,
    )


def _add(first: SeparablePair, second: SeparablePair) -> SeparablePair:
    """The pair run twice: its parameters are the same, its multiply-adds add up."""
    return replace(first, macs=first.macs + second.macs, standard_macs=first.standard_macs + second.standard_macs)


@dataclass(frozen=True)
class LayerCount:
    """One layer: a module without children, or one that computes or owns parameters besides its children.

    Attributes:
        path: dotted path in the network.
        kind: class name.
        output_shape: with the batch first; empty for a layer that did not run.
        parameters: its own elements; a parameter shared by layers is counted at the first.
        macs: multiply-adds of convolutions and matrix products.
        activation_bytes: float32 memory it fills anew; 0 for a layer that works in place or returns a view.
        calls: how often it ran in one forward pass.
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int
    calls: int


@dataclass(frozen=True)
class NetworkCount:
    """What a network costs for one input of `input_shape`, float32. The columns of `layers` add up to the totals.

    Attributes:
        input_shape: `[B, C, H, W]`; multiply-adds and bytes are for the whole batch.
        layers: in the order they finish.
        separable_pairs: its depthwise separable convolutions.
        parameters: elements of all parameters, trained or frozen; buffers are not among them.
        macs: multiply-adds of convolutions and matrix products; norms, activations, pools and sums are left out.
        activation_bytes: all activation memory the pass fills, as if none were freed; without the input.
        peak_activation_bytes: the most that is needed at once, see `peak_activation`.
        peak_layer: path of the layer at work then.
        standard_parameters: parameters with a standard convolution in place of each separable pair.
        standard_macs: multiply-adds of that network.
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerCount, ...]
    separable_pairs: tuple[SeparablePair, ...]
    parameters: int
    macs: int
    activation_bytes: int
    peak_activation_bytes: int
    peak_layer: str
    standard_parameters: int
    standard_macs: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as lists, dicts and numbers, with each pair's ratio; JSON-ready."""
        record = asdict(self)
        for pair, entry in zip(self.separable_pairs, record["separable_pairs"], strict=True):
            entry["ratio"] = pair.ratio
        return record


def count(model: nn.Module, input_shape: Sequence[int] | None = None) -> NetworkCount:
    """Count a network without running it: no memory is needed and the network is not changed.

    Any module made of convolutions, linear layers, norms, activations and pools can be counted, in whatever mode and
    on whatever device it is; it is counted in evaluation mode and float32.

    Args:
        model: the network.
        input_shape: `[B, C, H, W]`, or `[C, H, W]` for one image. None, for a `MobileNet` only, is one image of the
            size and channels it was built for.

    Raises:
        ModelError: the shape is missing or wrong, or the network can't take such an input.
    """
    shape = _full_shape(model, input_shape)
    record = trace(model, shape)
    pairs = separable_pairs(record.operations)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = sum(operation.macs for operation in record.operations)
    peak_bytes, peak_layer = peak_activation(record)
    return NetworkCount(
        input_shape=shape,
        layers=_layers(model, record),
        separable_pairs=pairs,
        parameters=parameters,
        macs=macs,
        activation_bytes=sum(record.buffer_bytes[record.inputs :]),
        peak_activation_bytes=peak_bytes,
        peak_layer=peak_layer,
        standard_parameters=parameters + sum(pair.standard_parameters - pair.parameters for pair in pairs),
        standard_macs=macs + sum(pair.standard_macs - pair.macs for pair in pairs),
    )


def peak_activation(record: Trace) -> tuple[int, str]:
    """Peak activation memory in bytes, and the path of the layer at work then.

    The operations are those of eager PyTorch in inference: not fused, in place where the network says so. A tensor
    lives from the operation that fills it to the last one that reads it, its views included; the input lives from the
    start. The peak is the largest sum of tensors alive during one operation, its inputs and results among them.
    Weights, buffers and a kernel's own scratch memory are not counted. Python may hold a block's input a little longer
    than its last reader, so this is what a runtime needs that frees at once.
    """
    born: dict[int, int] = dict.fromkeys(range(record.inputs), 0)
    last_used: dict[int, int] = {}
    for step, operation in enumerate(record.operations):
        for buffer in (*operation.reads, *operation.writes):
            born.setdefault(buffer, step)
            last_used[buffer] = step
    change: Counter[int] = Counter()
    for buffer, end in last_used.items():
        change[born[buffer]] += record.buffer_bytes[buffer]
        change[end + 1] -= record.buffer_bytes[buffer]
    alive, peak_bytes, peak_layer = 0, 0, ""
    for step, operation in enumerate(record.operations):
        alive += change[step]
        if alive > peak_bytes:
            peak_bytes, peak_layer = alive, operation.path
    return peak_bytes, peak_layer


def _full_shape(model: nn.Module, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    if input_shape is None:
        if not isinstance(model, MobileNet):
            raise ModelError(
                f"{type(model).__name__} does not say what images it is for: give input_shape, (B, C, H, W)"
            )
        config = model.config
        return (1, config.in_channels, config.image_size, config.image_size)
    sizes: tuple[object, ...] = tuple(input_shape)
    shape = tuple(int(size) for size in sizes if not isinstance(size, bool) and isinstance(size, Integral))
    if len(shape) < len(sizes) or min(shape, default=0) < 1:
        raise ModelError(f"input_shape is {input_shape!r}: it must be whole numbers above 0, (B, C, H, W)")
    return (1, *shape) if len(shape) == 3 else shape


def _layers(model: nn.Module, record: Trace) -> tuple[LayerCount, ...]:
    macs: Counter[str] = Counter()
    filled: Counter[str] = Counter()
    known = set(range(record.inputs))
    for operation in record.operations:
        macs[operation.path] += operation.macs
        new = set(operation.writes) - known
        filled[operation.path] += sum(record.buffer_bytes[buffer] for buffer in new)
        known |= new
    parameters = _own_parameters(model)
    modules = dict(model.named_modules())
    idle = [path for path in modules if path not in record.modules]
    layers = []
    for path in (*record.modules, *idle):
        module, call = modules[path], record.modules.get(path)
        is_leaf = next(module.children(), None) is None
        if is_leaf or parameters[path] or macs[path] or filled[path]:
            layers.append(
                LayerCount(
                    path=path,
                    kind=type(module).__name__,
                    output_shape=call.output_shape if call else (),
                    parameters=parameters[path],
                    macs=macs[path],
                    activation_bytes=filled[path],
                    calls=call.calls if call else 0,
                )
            )
    return tuple(layers)


def _own_parameters(model: nn.Module) -> Counter[str]:
    own: Counter[str] = Counter()
    # `named_parameters` names a shared parameter once, by its first owner.
    for name, parameter in model.named_parameters():
        own[name.rpartition(".")[0]] += parameter.numel()
    return own
