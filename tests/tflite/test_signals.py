from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mobilenets.tflite.signals import FUNCTIONS, Signal, Values, affine, applied, product, recognised, start

ONE, NONE = np.ones(1), np.zeros(1)


def added(signal: Signal, tensor: int, value: float) -> Signal:
    return affine(signal, tensor, ONE, np.array([value]))


def scaled(signal: Signal, tensor: int, value: float) -> Signal:
    return affine(signal, tensor, np.array([value]), NONE)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_whole_functions(name: str) -> None:
    found, scale, shift = recognised(applied(start(0, 7), FUNCTIONS[name]))
    assert (found, scale.tolist(), shift.tolist()) == (name, [1.0], [0.0])


def test_pieces_in_any_order() -> None:
    x = start(0, 0)
    gate = applied(added(x, 1, 3), FUNCTIONS["relu6"])
    assert recognised(scaled(gate, 2, 1 / 6))[0] == "hard_sigmoid"
    assert recognised(product(x, scaled(gate, 2, 0.16667)))[0] == "hard_swish"
    assert recognised(scaled(product(gate, x), 3, 1 / 6))[0] == "hard_swish"
    assert recognised(product(scaled(x, 4, 1 / 6), gate))[0] == "hard_swish"


def test_the_3_that_was_added_to_the_bias() -> None:
    found, scale, shift = recognised(scaled(applied(start(0, 0), FUNCTIONS["relu6"]), 1, 1 / 6))
    assert (found, scale.tolist(), shift.tolist()) == ("hard_sigmoid", [1.0], [-3.0])


@pytest.mark.parametrize("name", ["identity", "relu", "relu6", "hard_swish"])
def test_batch_norm_before_the_activation(name: str) -> None:
    factors, shifts = np.array([0.5, -2.0, 0.0]), np.array([1.0, 0.25, -3.0])
    normalized = affine(affine(start(0, 0), 1, factors, NONE), 2, ONE, shifts)
    signal = normalized if name == "identity" else applied(normalized, FUNCTIONS[name])
    found, scale, shift = recognised(signal)
    assert found == name
    assert scale.tolist() == factors.tolist()
    assert (shift + np.zeros(3)).tolist() == shifts.tolist()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: x / (1 + np.exp(-x)),
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda x: np.full_like(x, np.nan),
    ],
    ids=["sigmoid", "swish", "old Keras hard sigmoid", "leaky ReLU", "not a number"],
)
def test_other_functions_are_not_taken_for_the_papers(function: Callable[[Values], Values]) -> None:
    assert recognised(applied(start(0, 0), function))[0] == "unknown"
