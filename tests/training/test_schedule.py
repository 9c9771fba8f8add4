from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.training.progress import image_size_at, learning_rate_at
from mobilenets.training.recipe import Recipe


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


def torchs_rates(make: Callable[..., Any], steps: int, every: int = 1, **options: Any) -> list[float]:
    """What torch's own scheduler gives, stepped once in `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler, rates = make(optimizer, **options), []
    for step in range(steps):
        if step and step % every == 0:
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def our_rates(steps_per_epoch: int, **fields: Any) -> list[float]:
    recipe = Recipe(learning_rate=0.3, **fields)
    return [learning_rate_at(step, steps_per_epoch, recipe) for step in range(recipe.epochs * steps_per_epoch)]


pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_one_cycle_is_torchs(warmup: float) -> None:
    rise = warmup / 8 if warmup else 0.3
    options = {"max_lr": 0.3, "total_steps": 40, "pct_start": rise, "cycle_momentum": False}
    expected = torchs_rates(torch.optim.lr_scheduler.OneCycleLR, 40, **options)
    assert our_rates(5, epochs=8, schedule="onecycle", warmup_epochs=warmup) == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(4, 1, 1.0), (1, 2, 0.5)])
def test_one_cycle_of_a_single_rising_step_begins_at_the_peak(epochs: int, steps: int, warmup: float) -> None:
    rates = our_rates(steps, epochs=epochs, schedule="onecycle", warmup_epochs=warmup)
    assert rates[0] == pytest.approx(0.3)
    assert all(rate < 0.3 for rate in rates[1:])


def test_step_is_torchs_step_decay() -> None:
    expected = torchs_rates(torch.optim.lr_scheduler.StepLR, 56, every=7, step_size=3, gamma=0.9)
    assert our_rates(7, epochs=8, schedule="step", gamma=0.9, decay_epochs=3.0) == pytest.approx(expected)


def test_exponential_is_torchs_and_smooth_between_epochs() -> None:
    ours = our_rates(7, epochs=8, schedule="exponential")
    expected = torchs_rates(torch.optim.lr_scheduler.ExponentialLR, 56, every=7, gamma=0.98)
    assert ours[::7] == pytest.approx(expected[::7])
    assert all(later < earlier for earlier, later in pairwise(ours))


def test_cosine_ends_where_it_is_asked_to() -> None:
    expected = torchs_rates(torch.optim.lr_scheduler.CosineAnnealingLR, 35, T_max=35, eta_min=0.03)
    assert our_rates(5, epochs=7, final_rate=0.1) == pytest.approx(expected)


def test_decay_begins_after_the_warm_up() -> None:
    rates = our_rates(10, epochs=6, schedule="step", gamma=0.5, warmup_epochs=2.0)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20::10] == pytest.approx([0.3, 0.15, 0.075, 0.0375])


def test_images_grow_evenly_to_their_full_size() -> None:
    recipe = Recipe(epochs=10, progressive_start=0.5)
    sizes = [image_size_at(epoch, 64, recipe) for epoch in range(10)]
    assert sizes[0] == 32
    assert sizes == sorted(sizes)
    assert sizes[8:] == [64, 64]
    assert all(size % 8 == 0 for size in sizes)
    assert {image_size_at(epoch, 64, Recipe(epochs=10)) for epoch in range(10)} == {64}


@given(st.integers(1, 40), st.integers(1, 300), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_size_is_never_above_the_full_one_which_the_last_epoch_has(
    epochs: int, full: int, start: float, end: float
) -> None:
    recipe = Recipe(epochs=epochs, progressive_start=start, progressive_end=end)
    sizes = [image_size_at(epoch, full, recipe) for epoch in range(epochs)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= min(full, 8)
    assert sizes[-1] == full


@given(st.integers(1, 50), st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1))
def test_the_rate_is_never_above_the_peak_nor_below_zero(epochs: int, steps: int, warmup: float, where: float) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, learning_rate=0.1)
    assert 0 <= learning_rate_at(int(where * epochs * steps), steps, recipe) <= 0.1
