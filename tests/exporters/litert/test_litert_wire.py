from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.exporters.litert.file import Wire


def seen(wire: Wire, stored: np.ndarray) -> np.ndarray:
    """The network's view of the stored values: its dimensions put in their order."""
    order = wire.order(range(len(wire.dims)))
    return stored.reshape(wire.axes).transpose(order).reshape(wire.sizes)


@given(st.data())
def test_views_are_those_of_an_array(data: st.DataObject) -> None:
    height, width, channels = (data.draw(st.sampled_from([1, 2, 3, 4, 6])) for _ in range(3))
    stored = np.arange(height * width * channels).reshape(height, width, channels)
    wire, array = Wire.feature_map(0, height, width, channels), stored.transpose(2, 0, 1)
    for _ in range(data.draw(st.integers(0, 6))):
        dim = data.draw(st.integers(0, array.ndim - 1))
        kind = data.draw(st.sampled_from(["transpose", "flatten", "unflatten", "ones"]))
        if kind == "transpose":
            other = data.draw(st.integers(0, array.ndim - 1))
            wire, array = wire.transpose(dim, other), array.swapaxes(dim, other)
        elif kind == "flatten":
            last = data.draw(st.integers(dim, array.ndim - 1))
            wire = wire.flatten(dim, last)
            array = array.reshape(*array.shape[:dim], -1, *array.shape[last + 1 :])
        elif kind == "ones":
            wire, array = wire.append_ones(1), array[..., None]
        else:
            divisors = [number for number in range(1, array.shape[dim] + 1) if array.shape[dim] % number == 0]
            outer = data.draw(st.sampled_from(divisors))
            try:
                wire = wire.unflatten(dim, (outer, -1))
            except ValueError:
                # Across stored axes that share no divisor: there is no such view, an operator has to copy.
                assert len(wire.dims[dim]) > 1
                continue
            array = array.reshape(*array.shape[:dim], outer, -1, *array.shape[dim + 1 :])
        assert wire.sizes == array.shape
        assert math.prod(wire.axes) == stored.size
        np.testing.assert_array_equal(seen(wire, stored), array)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 places are no 4 x 2"):
        Wire.vector(0, 6).unflatten(0, (4, 2))
