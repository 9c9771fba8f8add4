import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.benchmarking.latency import drift, ratios, relative_difference
from mobilenets.errors import MobilenetsError

TIMES = st.floats(0.01, 1000.0)


def noisy(median: float, spread: float, seed: int, rounds: int = 40) -> list[float]:
    return list(median * np.exp(np.random.default_rng(seed).normal(0, spread, rounds)))


def test_a_clear_difference_is_told_with_its_interval():
    (ratio,) = ratios({"a": noisy(1.0, 0.05, 0), "b": noisy(2.0, 0.05, 1)}, 1)
    assert ratio.low < 0.5 < ratio.high
    assert ratio.high - ratio.low < 0.06
    assert ratio.distinct


def test_two_of_the_same_are_not_told_apart_more_often_than_guaranteed():
    """95 % intervals of things that do not differ leave out 1 in about 5 % of cases."""
    found = [ratios({"a": noisy(1, 0.1, 2 * i), "b": noisy(1, 0.1, 2 * i + 1)}, 1)[0].distinct for i in range(100)]
    assert sum(found) <= 12


def test_rounds_are_drawn_together():
    """A machine that slows everything threefold in half of the rounds does not hide a difference of a tenth."""
    pace = np.where(np.arange(40) % 2, 3.0, 1.0)
    own = np.array(noisy(1.0, 0.01, 0))
    (paired,) = ratios({"a": list(own * pace), "b": list(own * pace * 1.1)}, 1)
    assert paired.distinct
    assert (paired.low, paired.high) == (pytest.approx(1 / 1.1), pytest.approx(1 / 1.1))


def test_what_a_repeat_differs_by_is_no_difference():
    turns = {"a": [1.0] * 10, "b": [1.02] * 10}
    assert ratios(turns, 1)[0].distinct
    assert not ratios(turns, 1, floor=0.03)[0].distinct


def test_every_pair_once_and_the_same_every_time():
    turns = {name: noisy(1.0, 0.1, seed) for seed, name in enumerate("abc")}
    assert [(one.first, one.second) for one in ratios(turns, 8)] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert ratios(turns, 8) == ratios(turns, 8)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=12))
def test_an_interval_holds_its_ratio_and_turns_round(pairs):
    first, second = (list(column) for column in zip(*pairs, strict=True))
    (ratio,) = ratios({"a": first, "b": second}, 1)
    (other,) = ratios({"b": second, "a": first}, 1)
    turned = ratio.turned()
    assert ratio.low <= ratio.high
    assert (turned.first, turned.ratio) == ("b", pytest.approx(other.ratio))
    assert (turned.low, turned.high) == (pytest.approx(other.low), pytest.approx(other.high))


def test_drift_compares_halves():
    assert drift([1.0, 1.0, 5.0, 2.0, 2.0]) == 2.0
    assert drift([1.0]) == 1.0
    assert relative_difference(0.8) == pytest.approx(0.25)
    assert relative_difference(1.25) == pytest.approx(0.25)


@pytest.mark.parametrize("turns", [{}, {"a": [], "b": []}, {"a": [1.0], "b": [1.0, 2.0]}, {"a": [0.0], "b": [1.0]}])
def test_bad_input(turns):
    with pytest.raises(MobilenetsError):
        ratios(turns, 1)
