"""Activations known by their values: whatever a function is called and however it is written, it is asked on a grid.

>>> name_activation(lambda x: np.clip(x + 3, 0, 6) / 6)
'hard_sigmoid'
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt

import numpy as np

from mobilenets.auditing.graph.nodes import Values

# Half steps and thirds hit every kink of the known functions; the odd ends tell a bound of 6 from one further out.
GRID: Values = np.union1d(np.linspace(-10, 10, 801), np.array([-1.0, 1.0, 3.0, 7.0, -1 / 3, 1 / 3]))
# A file's constants (1/6, 0.2) are float32: at 10 they are off by 1e-6.
_TOLERANCE = 1e-5


def _sigmoid(x: Values) -> Values:
    return 1 / (1 + np.exp(-x))


def _hard_sigmoid(x: Values) -> Values:
    return np.asarray(np.clip((x + 3) / 6, 0, 1))


def _hard_sigmoid_half(x: Values) -> Values:
    return np.asarray(np.clip((x + 1) / 2, 0, 1))


def _hard_sigmoid_keras(x: Values) -> Values:
    return np.asarray(np.clip(0.2 * x + 0.5, 0, 1))


def _gelu(x: Values) -> Values:
    return np.asarray(x * np.array([(1 + erf(value / sqrt(2))) / 2 for value in x]))


def _gelu_tanh(x: Values) -> Values:
    return np.asarray(x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2)


def _softplus(x: Values) -> Values:
    return np.logaddexp(0, x)


def _selu(x: Values) -> Values:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


_KNOWN: dict[str, Callable[[Values], Values]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_half": _hard_sigmoid_half,
    "hard_sigmoid_keras": _hard_sigmoid_keras,
    "hard_swish_half": lambda x: x * _hard_sigmoid_half(x),
    "hard_swish_keras": lambda x: x * _hard_sigmoid_keras(x),
    "sigmoid": _sigmoid,
    "swish": lambda x: x * _sigmoid(x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": _selu,
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
}
_EXPECTED = {name: function(GRID) for name, function in _KNOWN.items()}


def name_activation(function: Callable[[Values], Values]) -> str:
    """Name a function by its values on -10..10.

    Known by name: none (the identity), relu, relu6, hard_swish, hard_sigmoid (`clip((x + 3) / 6)`), hard_sigmoid_half
    (`clip((x + 1) / 2)`), hard_sigmoid_keras (`clip(0.2 x + 0.5)`), hard_swish_half and hard_swish_keras (x times
    these), sigmoid, swish, quick_gelu, gelu, gelu_tanh, elu, selu, tanh, hard_tanh, mish, softplus, softsign,
    relu_squared. By their shape: leaky_relu (any slope), relu_n (any other bound than 6), constant, scale (`c x`) and
    affine (`c x + d`). Anything else, or values that are not finite, is `unknown`.

    Args:
        function: maps float64 values `[N]` to as many.
    """
    with np.errstate(all="ignore"):
        values = np.asarray(function(GRID.copy()), dtype=np.float64)
    if values.shape != GRID.shape or not np.isfinite(values).all():
        return "unknown"
    for name, expected in _EXPECTED.items():
        if _same(values, expected):
            return name
    return _name_by_shape(values)


def _name_by_shape(values: Values) -> str:
    """A function with a free constant: read the constant off, then hold the whole grid against it."""
    at = {point: float(values[np.searchsorted(GRID, point)]) for point in (-1.0, 0.0, 1.0, 10.0)}
    slope, shift = at[1.0] - at[0.0], at[0.0]
    if _same(values, np.full_like(GRID, shift)):
        return "constant"
    if _same(values, slope * GRID + shift):
        return "scale" if abs(shift) <= _TOLERANCE else "affine"
    if _same(values, np.where(GRID > 0, GRID, -at[-1.0] * GRID)):
        return "leaky_relu"
    if _same(values, np.clip(GRID, 0, at[10.0])):
        return "relu_n"
    return "unknown"


def _same(values: Values, expected: Values) -> bool:
    return bool(np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE))
