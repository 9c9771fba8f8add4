"""Getting tensors into the order an operator wants them in, with as few operators as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from mobilenets.errors import ExportError
from mobilenets.exporting.litert_file import ANY_BATCH, FileBuilder
from mobilenets.exporting.litert_wire import ONE, Wire


class WireWriter:
    """Appends operators that take and give wires; `name` is that of the layer they serve.

    Args:
        file: to write to.
    """

    def __init__(self, file: FileBuilder) -> None:
        self.file = file

    def plain(self, name: str, wire: Wire) -> Wire:
        """The same values with nothing left to multiply."""
        if (wire.factor == 1).all():
            return with_factor(wire, ONE)
        source = self.feature_map(name, wire) if wire.factor.ndim else wire
        factor = self.file.constant(f"{name}/factor", np.atleast_1d(source.factor).astype(np.float32))
        return self.elementwise("MUL", f"{name}/scaled", with_factor(source, ONE), schema.MulOptionsT(), factor)

    def elementwise(self, kind: str, name: str, wire: Wire, options: Any, *others: int) -> Wire:
        """An operator that takes value by value: the answer is arranged as `wire` is. `others` are tensors."""
        output = self.file.computed(name, wire.shape)
        self.file.operator(kind, [wire.index, *others], output, options)
        return Wire(output, wire.shape, wire.axes, wire.dims, wire.factor)

    def binary(self, kind: str, name: str, left: Wire, right: Wire, options: Any) -> Wire:
        """An operator on two tensors of one shape, or on a map `[C, H, W]` and a vector `[C, 1, 1]`."""
        if len(left.dims) == 3:
            left, right = self.feature_map(name, left), self.feature_map(name, right)
        elif (left.shape, left.axes, left.dims) != (right.shape, right.axes, right.dims):
            order = range(len(left.dims))
            left, right = self.stored(name, left, order), self.stored(name, right, order)
        larger, other = (left, right) if left.sizes >= right.sizes else (right, left)
        return self.elementwise(kind, name, larger, options, other.index)

    def feature_map(self, name: str, wire: Wire) -> Wire:
        """The same values stored `[B, H, W, C]`."""
        map_size(name, wire)
        return self.stored(name, wire, [1, 2, 0])

    def stored(self, name: str, wire: Wire, order: Sequence[int]) -> Wire:
        """The same values with the network's dimensions stored in this order, one axis each."""
        return self.arranged(name, wire, wire.order(order), tuple(wire.size(dim) for dim in order))

    def arranged(self, name: str, wire: Wire, axes: tuple[int, ...], shape: tuple[int, ...]) -> Wire:
        """The same values with the stored axes in this order, as a tensor of this shape."""
        if axes != tuple(range(len(wire.axes))):
            wire = self._transposed(name, self._reshaped(f"{name}/split", wire, wire.axes), axes)
        return self._reshaped(f"{name}/reshaped", wire, shape)

    def _reshaped(self, name: str, wire: Wire, shape: tuple[int, ...]) -> Wire:
        if wire.shape == shape:
            return wire
        output = self.file.computed(name, shape)
        self.file.operator("RESHAPE", [wire.index, self.file.numbers([ANY_BATCH, *shape])], output)
        return Wire(output, shape, wire.axes, wire.dims, wire.factor)

    def _transposed(self, name: str, wire: Wire, order: tuple[int, ...]) -> Wire:
        shape = tuple(wire.axes[axis] for axis in order)
        output = self.file.computed(f"{name}/transposed", shape)
        permutation = self.file.numbers([0, *(axis + 1 for axis in order)])
        self.file.operator("TRANSPOSE", [wire.index, permutation], output, schema.TransposeOptionsT())
        dims = tuple(tuple(order.index(axis) for axis in dim) for dim in wire.dims)
        return Wire(output, shape, shape, dims, wire.factor)


def with_factor(wire: Wire, factor: NDArray[np.float64] | float) -> Wire:
    """The same tensor, with this to be multiplied with."""
    return Wire(wire.index, wire.shape, wire.axes, wire.dims, np.asarray(factor, np.float64))


def map_size(name: str, wire: Wire) -> tuple[int, int]:
    """Height and width of a feature map.

    Raises:
        ExportError: it is none.
    """
    if len(wire.dims) != 3:
        raise ExportError(f"layer {name} wants a feature map and gets {list(wire.sizes)}: LiteRT export can't place it")
    return wire.size(1), wire.size(2)
