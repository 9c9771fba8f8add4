from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.training.recipe import Recipe
from mobilenets.training.schedule import learning_rate_at


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # the reference is stepped without training
def test_cosine_is_torchs_cosine() -> None:
    recipe = Recipe(epochs=7, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7 * 5)
    for step in range(35):
        assert learning_rate_at(step, 5, recipe) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        reference.step()


def test_warm_up_rises_to_the_peak_and_then_falls() -> None:
    recipe = Recipe(epochs=4, learning_rate=1.0, warmup_epochs=1.0)
    rates = [learning_rate_at(step, 10, recipe) for step in range(40)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_warm_up_is_at_most_half_of_a_short_run() -> None:
    rates = [learning_rate_at(step, 10, Recipe(epochs=1, warmup_epochs=3.0)) for step in range(10)]
    assert rates.index(max(rates)) == 5


def test_constant_stays() -> None:
    recipe = Recipe(epochs=3, schedule="constant")
    assert {learning_rate_at(step, 10, recipe) for step in range(30)} == {recipe.learning_rate}


@given(st.integers(1, 50), st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1))
def test_the_rate_is_never_above_the_peak_nor_below_zero(epochs: int, steps: int, warmup: float, where: float) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, learning_rate=0.1)
    assert 0 <= learning_rate_at(int(where * epochs * steps), steps, recipe) <= 0.1
