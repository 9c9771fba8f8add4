from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilenets.auditing.graph.nodes import Values
from mobilenets.auditing.graph.probe import GRID, name_activation
from mobilenets.auditing.graph.values import as_values

TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "selu": F.selu,
    "tanh": torch.tanh,
    "hard_tanh": F.hardtanh,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "leaky_relu": F.leaky_relu,
    "relu_squared": lambda x: F.relu(x) ** 2,
}
LOOKALIKES: dict[str, Callable[[Values], Values]] = {
    "relu6": lambda x: np.where(x > 6, 6, np.where(x < 0, 0, x)),
    "hard_swish": lambda x: x * np.float32(1 / 6) * np.clip(x + 3, 0, 6),
    "hard_sigmoid_half": lambda x: np.clip((x + 1) / 2, 0, 1),
    "hard_sigmoid_keras": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish_half": lambda x: x * np.clip((x + 1) / 2, 0, 1),
    "hard_swish_keras": lambda x: x * np.clip(0.2 * x + 0.5, 0, 1),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "relu_n": lambda x: np.clip(x, 0, 1),
    "constant": lambda x: np.zeros_like(x),
    "unknown": np.sin,
}


@pytest.mark.parametrize("name", TORCH)
def test_pytorchs_own_functions_are_known(name: str) -> None:
    assert name_activation(as_values(TORCH[name])) == name


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_are_told_apart(name: str) -> None:
    assert name_activation(LOOKALIKES[name]) == name


def test_a_tenth_above_six_is_not_relu6() -> None:
    assert name_activation(lambda x: np.clip(x, 0, 6.1)) == "relu_n"
    assert name_activation(lambda x: np.clip(x, -0.01, 6)) == "unknown"


def test_values_that_are_not_finite_are_unknown() -> None:
    assert name_activation(np.log) == "unknown"


@given(st.floats(0.01, 0.99))
def test_any_slope_below_zero_is_leaky(slope: float) -> None:
    assert name_activation(lambda x: np.where(x > 0, x, slope * x)) == "leaky_relu"


@given(st.floats(0.1, 9.0).filter(lambda bound: abs(bound - 6) > 0.01))
def test_any_other_bound_than_six_is_relu_n(bound: float) -> None:
    assert name_activation(lambda x: np.clip(x, 0, bound)) == "relu_n"


@given(st.floats(-3, 3).filter(lambda a: min(abs(a), abs(a - 1)) > 0.01), st.floats(-3, 3))
def test_straight_lines_are_scale_or_affine(factor: float, shift: float) -> None:
    shift = 0.0 if abs(shift) < 0.01 else shift
    assert name_activation(lambda x: factor * x + shift) == ("scale" if shift == 0 else "affine")


def test_the_probe_hands_out_its_own_grid() -> None:
    def spoil(values: Values) -> Values:
        values[:] = 0
        return values

    before = GRID.copy()
    assert name_activation(spoil) == "constant"
    assert np.array_equal(GRID, before)
