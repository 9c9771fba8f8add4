"""Tensors that are channels last in the file and channels first in the network, and views of them that cost nothing.

A network reshapes and transposes in PyTorch's order of dimensions, `[B, C, H, W]`; a LiteRT file keeps `[B, H, W, C]`.
Translating such views one by one gives a transposition for each. A `Wire` remembers instead which stored axes make up
which dimension of the network, so a view only rewrites that note, and an operator is due only where another one needs
the values in an order they are not in. MobileNetV4's attention has none left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

ONE = np.ones(())


@dataclass(frozen=True)
class Wire:
    """A computed tensor. The batch stands first everywhere and is left out of all that follows.

    Attributes:
        index: of the tensor in the file.
        shape: as the file has it.
        axes: sizes of the stored axes above 1, outermost first; finer than `shape` where that has merged some.
        dims: of each dimension of the network but the batch: positions in `axes`, outermost first; none for size 1.
        factor: what the values are still to be multiplied with: one number, or one a channel of a `[C, H, W]` map. The
            next layer takes it into its weights.
    """

    index: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dims: tuple[tuple[int, ...], ...]
    factor: NDArray[np.float64]

    @classmethod
    def feature_map(cls, index: int, height: int, width: int, channels: int) -> Self:
        """A tensor stored `[B, H, W, C]` that the network sees as `[B, C, H, W]`."""
        return cls._stored(index, (height, width, channels), (2, 0, 1))

    @classmethod
    def vector(cls, index: int, channels: int) -> Self:
        """A tensor `[B, C]`."""
        return cls._stored(index, (channels,), (0,))

    @classmethod
    def _stored(cls, index: int, shape: tuple[int, ...], order: Sequence[int]) -> Self:
        large = [position for position, size in enumerate(shape) if size > 1]
        dims = tuple((large.index(position),) if position in large else () for position in order)
        return cls(index, shape, tuple(shape[position] for position in large), dims, ONE)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The network's shape, without the batch."""
        return tuple(self.size(dim) for dim in range(len(self.dims)))

    def size(self, dim: int) -> int:
        """Size of the network's dimension `dim`, the batch not counted."""
        return math.prod(self.axes[axis] for axis in self.dims[dim])

    def order(self, dims: Sequence[int]) -> tuple[int, ...]:
        """Stored axes in the order of these dimensions."""
        return tuple(axis for dim in dims for axis in self.dims[dim])

    def flatten(self, first: int, last: int) -> Wire:
        """The dimensions from `first` to `last`, both included, as one."""
        merged = self.order(range(first, last + 1))
        return replace(self, dims=(*self.dims[:first], merged, *self.dims[last + 1 :]))

    def transpose(self, first: int, second: int) -> Wire:
        """Two dimensions exchanged."""
        dims = list(self.dims)
        dims[first], dims[second] = dims[second], dims[first]
        return replace(self, dims=tuple(dims))

    def append_ones(self, count: int) -> Wire:
        """That many dimensions of size 1 more, at the end."""
        return replace(self, dims=(*self.dims, *[()] * count))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Wire:
        """One dimension as several; a size of -1 follows from the others.

        Raises:
            ValueError: the sizes don't divide it.
        """
        known = math.prod(size for size in sizes if size != -1)
        wanted = [self.size(dim) // known if size == -1 else size for size in sizes]
        if math.prod(wanted) != self.size(dim):
            raise ValueError(f"{self.size(dim)} places are no {' x '.join(map(str, sizes))}")
        wire: Wire = self
        parts: list[list[int]] = []
        rest = list(self.dims[dim])
        for size in wanted:
            part: list[int] = []
            while (missing := _quotient(size, math.prod(wire.axes[axis] for axis in part))) > 1:
                if wire.axes[rest[0]] > missing:
                    wire = wire._split(rest[0], missing)
                    # What follows the split axis has moved up by one.
                    rest = [rest[0], rest[0] + 1, *(axis + (axis > rest[0]) for axis in rest[1:])]
                    parts = [[axis + (axis > rest[0]) for axis in done] for done in parts]
                    part = [axis + (axis > rest[0]) for axis in part]
                part.append(rest.pop(0))
            parts.append(part)
        return replace(wire, dims=(*wire.dims[:dim], *map(tuple, parts), *wire.dims[dim + 1 :]))

    def _split(self, axis: int, outer: int) -> Wire:
        axes = (*self.axes[:axis], outer, _quotient(self.axes[axis], outer), *self.axes[axis + 1 :])

        def moved(position: int) -> tuple[int, ...]:
            return (position, position + 1) if position == axis else (position + (position > axis),)

        dims = tuple(tuple(new for old in dim for new in moved(old)) for dim in self.dims)
        return replace(self, axes=axes, dims=dims)


def _quotient(size: int, part: int) -> int:
    if size % part:
        raise ValueError(f"{size} places can't be cut into pieces of {part}")
    return size // part
