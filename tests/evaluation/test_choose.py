import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.results import Bounds, Interval, Latency, PairedTest
from mobilenets.evaluation.selection import TIE, Contender, as_fast_as, choose, fits, nearest_miss


def row(label, top1, latency, parameters=1_000_000, macs=10_000_000, images=360):
    return Contender(
        label=label,
        top1=Interval(top1, top1, top1, "2 seeds"),
        images=images,
        parameters=parameters,
        macs=macs,
        latency={"onnxruntime": Latency(latency, latency, 0.0, 50), "pytorch": Latency(10.0, 10.0, 0.0, 50)},
    )


def pair(first, second, *, differs, p=None):
    p = p if p is not None else (0.01 if differs else 0.61)
    return PairedTest(first, second, 0.3, -1.0, 1.0, p, p, differs, "McNemar's exact test")


SMALL = row("small", 97.5, 0.312, 1_500_000)
MIDDLE = row("middle", 97.8, 0.48, 2_200_000)
LARGE = row("large", 99.2, 1.26, 4_200_000)
PAIRS = (
    pair("small", "middle", differs=False),
    pair("small", "large", differs=True, p=0.0004),
    pair("middle", "large", differs=True, p=0.012),
)
ROWS = (LARGE, MIDDLE, SMALL)


def test_the_best_is_worth_its_cost_when_the_images_say_so():
    choice = choose(ROWS, PAIRS, Bounds())
    assert choice.label == "large"
    assert choice.reason == (
        "large scores best of the 3 networks (99.2 % of 360 validation images, 1.26 ms); "
        "of the faster ones middle (0.48 ms) comes nearest, 1.4 points behind (p = 0.012)."
    )


def test_a_cheaper_network_that_can_not_be_told_apart_is_taken():
    choice = choose(ROWS, PAIRS, Bounds(max_latency_ms=0.5))
    assert choice.label == "small"
    assert choice.reason == (
        "small is the fastest (0.312 ms) of the 2 networks within 0.5 ms; "
        "middle (0.48 ms) scores 0.3 points more, which is not significant on 360 validation images (p = 0.61)."
    )


def test_the_cheapest_that_keeps_up_need_not_be_the_fastest_of_all():
    rows = (row("fast", 80.0, 0.1), row("good", 95.0, 0.2), row("best", 95.4, 0.3))
    pairs = (
        pair("fast", "best", differs=True),
        pair("good", "best", differs=False),
        pair("fast", "good", differs=True),
    )
    choice = choose(rows, pairs, Bounds())
    assert choice.label == "good"
    assert choice.reason.startswith("good is the fastest to match the best (0.2 ms) of the 3 networks; best")


def test_equal_latency_is_decided_by_multiply_adds():
    rows = (row("heavy", 95.0, 0.2, macs=20), row("light", 95.0, 0.2, macs=10))
    assert choose(rows, (pair("heavy", "light", differs=False),), Bounds()).label == "light"


def test_networks_that_were_not_tested_count_as_different():
    choice = choose((SMALL, MIDDLE), (), Bounds())
    assert choice.label == "middle"
    assert "(not tested)" in choice.reason


def test_the_only_one():
    assert (
        choose((SMALL,), (), Bounds()).reason
        == "small is the only network compared (97.5 % of 360 validation images, 0.312 ms)."
    )
    only = choose(ROWS, PAIRS, Bounds(min_top1=99.0))
    assert only.label == "large"
    assert (
        only.reason
        == "large is the only one of 3 networks at 99 % or better (99.2 % of 360 validation images, 1.26 ms)."
    )


def test_best_and_fastest():
    rows = (row("old", 90.0, 0.4), row("new", 95.0, 0.2))
    assert choose(rows, (pair("old", "new", differs=True),), Bounds()).reason == (
        "new scores best of the 2 networks and is also the fastest (95.0 % of 360 validation images, 0.2 ms)."
    )


def test_none_fits_says_which_one_bound_to_loosen():
    bounds = Bounds(max_latency_ms=0.5, min_top1=98.0)
    choice = choose(ROWS, PAIRS, bounds)
    assert choice.label is None
    # Accuracy 98 -> 97.8 is 0.2 % of the bound, latency 0.5 -> 1.26 would be 152 %.
    assert choice.reason == (
        "None of the 3 networks is within 0.5 ms and at 98 % or better. "
        "Loosen the accuracy to 97.8 % to get middle (97.8 % of 360 validation images, 0.48 ms, 2,200,000 parameters)."
    )


def test_none_fits_says_when_one_bound_is_not_enough():
    choice = choose((LARGE,), (), Bounds(max_latency_ms=1.0, max_params=3_000_000))
    assert choice.label is None
    assert choice.reason == (
        "The only network compared is not within 1 ms and within 3,000,000 parameters. "
        "Loosen the latency to 1.26 ms and the parameters to 4,200,000 "
        "to get large (99.2 % of 360 validation images, 1.26 ms, 4,200,000 parameters); no single bound is enough."
    )


rows_strategy = st.lists(
    st.builds(
        lambda top1, latency, parameters: (top1, latency, parameters),
        st.floats(0, 100),
        st.floats(1e-3, 1e4),
        st.integers(1, 10**8),
    ),
    min_size=1,
    max_size=5,
).map(lambda values: [row(f"net {i}", top1, ms, params) for i, (top1, ms, params) in enumerate(values)])
bounds_strategy = st.builds(
    Bounds,
    st.none() | st.floats(1e-3, 1e4),
    st.none() | st.integers(1, 10**8),
    st.none() | st.floats(0, 100),
)


@given(rows_strategy, bounds_strategy, st.data())
def test_the_choice_keeps_the_bounds_and_no_similar_network_is_cheaper(rows, bounds, data):
    pairs = [
        pair(a.label, b.label, differs=data.draw(st.booleans())) for i, a in enumerate(rows) for b in rows[i + 1 :]
    ]
    choice = choose(rows, pairs, bounds)
    within = [r for r in rows if fits(r, bounds)]
    assert (choice.label is None) == (not within)
    assert choice.reason.endswith(".")
    if choice.label is None:
        return
    chosen = next(r for r in rows if r.label == choice.label)
    best = max(r.top1.mean for r in within)
    assert chosen in within
    similar = {p.second for p in pairs if p.first == chosen.label and not p.differs}
    similar |= {p.first for p in pairs if p.second == chosen.label and not p.differs}
    tops = {r.label for r in within if r.top1.mean == best}
    assert chosen.label in tops or similar & tops


@given(rows_strategy, bounds_strategy)
def test_the_loosened_bounds_admit_the_named_network_and_nothing_else_changes(rows, bounds):
    if any(fits(r, bounds) for r in rows):
        return
    miss = nearest_miss(rows, bounds)
    assert fits(miss.row, miss.bounds)
    for name in ("max_latency_ms", "max_params", "min_top1"):
        assert (getattr(miss.bounds, name) != getattr(bounds, name)) == (name in miss.loosened)
    # No network would have come in with fewer bounds changed.
    for r in rows:
        broken = [
            bounds.max_latency_ms is not None and r.latency["onnxruntime"].median_ms > bounds.max_latency_ms,
            bounds.max_params is not None and r.parameters > bounds.max_params,
            bounds.min_top1 is not None and r.top1.mean < bounds.min_top1,
        ]
        assert sum(broken) >= len(miss.loosened)


@pytest.mark.parametrize(
    ("rows", "bounds", "key", "message"),
    [
        ((), Bounds(), "onnxruntime", "no networks"),
        ((SMALL,), Bounds(), "litert", "not timed with litert but with onnxruntime, pytorch"),
        ((SMALL, SMALL), Bounds(), "onnxruntime", "different labels"),
    ],
)
def test_bad_input(rows, bounds, key, message):
    with pytest.raises(MobilenetsError, match=message):
        choose(rows, (), bounds, key)


@pytest.mark.parametrize(
    ("time", "distinct", "expected"),
    [(0.9, True, True), (1.0, True, True), (1.05, False, True), (1.05, True, False), (TIE + 0.01, False, False)],
)
def test_as_fast_is_what_is_not_measurably_slower_and_not_far_off(time, distinct, expected):
    assert as_fast_as(time, 1.0, distinct=distinct) is expected


def test_of_networks_that_are_as_fast_the_one_of_fewer_multiply_adds_is_recommended():
    rows = (row("light", 95.0, 1.01, macs=5_000_000), row("quick", 95.0, 1.0), row("best", 95.2, 1.02))
    pairs = (pair("light", "best", differs=False), pair("quick", "best", differs=False))
    assert choose(rows, pairs, Bounds()).label == "quick"
    noisy = choose(rows, pairs, Bounds(), "onnxruntime", lambda first, second: False)
    assert noisy.label == "light"
    assert noisy.reason.startswith("light is as fast as any (1.01 ms) of the 3 networks")


def test_the_best_is_kept_where_none_is_measurably_faster_or_lighter():
    rows = (row("quick", 95.0, 1.0), row("best", 95.2, 1.02))
    choice = choose(rows, (pair("quick", "best", differs=False),), Bounds(), "onnxruntime", lambda first, second: False)
    assert choice.label == "best"
    assert "none is measurably faster" in choice.reason
