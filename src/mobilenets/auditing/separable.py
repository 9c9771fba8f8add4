"""What depthwise separable convolutions save, by the formula of the first MobileNet paper.

A depthwise K x K filter on C channels and a pointwise mix to D channels cost H·W·(C·K² + C·D) multiply-adds; the
standard convolution they stand for H·W·C·D·K². The ratio is 1/D + 1/K². Source: Howard et al. 2017 (arXiv 1704.04861),
section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from mobilenets.auditing.trace import Convolution, Operation


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
