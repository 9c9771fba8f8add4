from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobilenets.errors import DataError
from mobilenets.evaluation.significance import (
    compare_all,
    holm,
    mean_interval,
    paired_test,
    proportion_interval,
    top1_interval,
)


def pair_of_runs(rng, *, seeds=1, images=360, better=0.0, seed_spread=0.0):
    """Two networks trained `seeds` times: images differ in difficulty, seeds in luck, the first network in skill."""
    difficulty = rng.normal(2.5, 2.0, images)

    def runs(skill):
        luck = rng.normal(0.0, seed_spread, (seeds, 1))
        return rng.random((seeds, images)) < 1 / (1 + np.exp(-(difficulty + skill + luck)))

    return runs(better), runs(0.0)


def found(rng, times, **setting):
    return np.mean([paired_test("a", "b", *pair_of_runs(rng, **setting)).differs for _ in range(times)])


def test_mean_interval_by_hand():
    # Mean 92, standard deviation 2, t(0.975, 2) = 4.302653: half width 4.302653 * 2 / sqrt(3).
    interval = mean_interval([90.0, 92.0, 94.0])
    assert (interval.mean, interval.basis) == (92.0, "3 seeds")
    assert interval.high - 92 == 92 - interval.low == pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-6)


def test_mean_interval_stays_a_percentage():
    assert mean_interval([99.0, 100.0]).high == 100
    assert mean_interval([0.0, 1.0]).low == 0


def test_wilson_interval_by_hand():
    # 8 of 10 with z = 1.959964: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    interval = proportion_interval(8, 10)
    assert (interval.low, interval.high) == pytest.approx((49.016, 94.331), abs=2e-3)
    assert (interval.mean, interval.basis) == (80, "10 test images, 1 seed")


@given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_proportion_interval_encloses_its_mean(case):
    interval = proportion_interval(*case)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 100
    assert interval.high > interval.low


def test_top1_interval_chooses_by_the_number_of_seeds():
    one = np.array([[True, True, False, True]])
    assert top1_interval(one) == proportion_interval(3, 4)
    assert top1_interval(np.vstack([one, ~one])) == mean_interval([75.0, 25.0])


def test_seeds_that_score_the_same_do_not_make_accuracy_certain():
    interval = top1_interval(np.array([[True, True, False], [False, True, True]]))
    assert interval.basis == "3 test images, 2 seeds of the same score"
    assert (interval.low, interval.high) == (proportion_interval(2, 3).low, proportion_interval(2, 3).high)


def test_mcnemar_by_hand():
    # 9 images only the first gets right, 2 only the second: p = 2 * P(at most 2 of 11 coins).
    a = np.array([[True] * 9 + [False] * 2 + [True] * 80 + [False] * 9])
    b = np.array([[False] * 9 + [True] * 2 + [True] * 80 + [False] * 9])
    test = paired_test("a", "b", a, b)
    assert test.p_value == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)
    assert test.difference == pytest.approx(7.0)
    # Bonett and Price: (10 - 3) / 102 +- 1.959964 * sqrt((13/102 - (7/102)^2) / 102)
    half = 1.959964 * ((13 / 102 - (7 / 102) ** 2) / 102) ** 0.5
    assert (test.low, test.high) == pytest.approx((100 * (7 / 102 - half), 100 * (7 / 102 + half)), rel=1e-6)
    assert not test.differs


booleans = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


@given(booleans)
def test_a_pair_turned_round_is_the_same_test(pair):
    a, b = pair
    one, other = paired_test("a", "b", a, b), paired_test("b", "a", b, a)
    assert one.p_value == pytest.approx(other.p_value)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert -100 <= one.low < one.high <= 100
    assert one.low - 1e-9 <= one.difference <= one.high + 1e-9
    assert 0 <= one.p_value <= 1
    if len(a) > 1:
        assert one.differs == (not one.low <= 0 <= one.high)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 20))))
def test_equal_answers_are_no_difference_but_not_certainty(correct):
    test = paired_test("a", "b", correct, correct)
    assert (test.difference, test.p_value, test.differs) == (0, 1, False)
    assert test.low < 0 < test.high


@pytest.mark.parametrize("setting", [{"seeds": 1}, {"seeds": 2}, {"seeds": 3, "images": 100}])
def test_no_more_than_five_in_a_hundred_false_alarms(setting):
    # The networks do differ from image to image, only not in skill. 0.08 is 3 standard errors above 0.05.
    assert found(np.random.default_rng(1), 300, **setting) < 0.08


def test_lucky_seeds_are_not_taken_for_a_better_network():
    setting = {"seeds": 3, "images": 1000, "seed_spread": 0.4}
    assert found(np.random.default_rng(2), 300, **setting) < 0.08
    # What the test would be without the seeds' part of the variance: most comparisons of like with like are alarms.
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(300):
        a, b = pair_of_runs(rng, **setting)
        difference = a.mean(axis=0) - b.mean(axis=0)
        alarms += abs(difference.mean()) > 1.96 * difference.std() / 1000**0.5
    assert alarms / 300 > 0.3


@pytest.mark.parametrize(("setting", "least"), [({"seeds": 1}, 0.8), ({"seeds": 3, "seed_spread": 0.1}, 0.9)])
def test_a_real_difference_is_found(setting, least):
    assert found(np.random.default_rng(3), 100, images=1000, better=0.7, **setting) > least


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_covers_the_true_difference(seeds):
    rng, covered = np.random.default_rng(4), 0
    difficulty = np.random.default_rng(5).normal(2.5, 2.0, 200_000)
    truth = 100 * np.mean(1 / (1 + np.exp(-(difficulty + 0.5))) - 1 / (1 + np.exp(-difficulty)))
    for _ in range(300):
        test = paired_test("a", "b", *pair_of_runs(rng, seeds=seeds, better=0.5))
        covered += test.low <= truth <= test.high
    assert covered / 300 > 0.91


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_keeps_the_order_and_is_between_the_raw_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1, p * len(p_values)) + 1e-12 or a == pytest.approx(
            max(x for x, y in zip(adjusted, p_values, strict=True) if y <= p)
        )
    assert [adjusted[i] for i in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_compare_all_corrects_over_all_pairs():
    rng = np.random.default_rng(6)
    good, poor = pair_of_runs(rng, better=3.0)
    tests = compare_all({"good": good, "poor": poor, "poor too": poor.copy()})
    assert [(test.first, test.second) for test in tests] == [
        ("good", "poor"),
        ("good", "poor too"),
        ("poor", "poor too"),
    ]
    assert [test.differs for test in tests] == [True, True, False]
    assert tests[0].p_adjusted == pytest.approx(3 * tests[0].p_value)
    assert all(test.method == "McNemar's exact test, 360 test images, 1 seed; Holm over 3 pairs" for test in tests)


def test_one_network_has_no_pairs_and_two_need_no_correction():
    a, b = pair_of_runs(np.random.default_rng(7))
    assert compare_all({"a": a}) == ()
    assert compare_all({"a": a, "b": b}) == (paired_test("a", "b", a, b),)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([90.0]),
        lambda: proportion_interval(0, 0),
        lambda: proportion_interval(3, 2),
        lambda: top1_interval(np.ones(5, dtype=bool)),
        lambda: top1_interval(np.ones((0, 5), dtype=bool)),
        lambda: paired_test("a", "b", np.ones((1, 5), dtype=bool), np.ones((1, 6), dtype=bool)),
        lambda: paired_test("a", "b", np.ones((2, 5), dtype=bool), np.ones((1, 5), dtype=bool)),
    ],
)
def test_bad_input(call):
    with pytest.raises(DataError):
        call()
