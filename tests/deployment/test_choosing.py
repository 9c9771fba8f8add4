from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.deployment.results import Way
from mobilenets.deployment.select import choose
from mobilenets.evaluation.selection import TIE
from mobilenets.quantization.results import within

MakeWay = Callable[..., Way]


def always(first: str, second: str) -> bool:
    return True


def never(first: str, second: str) -> bool:
    return False


@st.composite
def some_ways(draw: st.DrawFn, way: MakeWay) -> list[Way]:
    count = draw(st.integers(1, 8))
    return [
        way(
            f"way {number}",
            draw(st.floats(0.1, 50.0)),
            drop=draw(st.floats(-3.0, 10.0)),
            stored=draw(st.sampled_from(("fp32", "int8"))),
            file_bytes=draw(st.integers(100_000, 10_000_000)),
            threads=draw(st.sampled_from((1, 2))),
        )
        for number in range(count)
    ]


@given(data=st.data(), max_drop=st.floats(0.0, 5.0), noisy=st.booleans())
def test_the_choice_never_breaks_the_bound(way: MakeWay, data: st.DataObject, max_drop: float, noisy: bool) -> None:
    ways = data.draw(some_ways(way))
    decision = choose(ways, max_drop, never if noisy else always)
    kept = next(one for one in ways if one.label == decision.label)
    holding = [one for one in ways if within(one.drop, max_drop)]
    assert decision.holds is bool(holding)
    if not holding:
        assert kept.stored == "fp32" or all(one.stored == "int8" for one in ways)
        assert "No way" in decision.reason
        return
    assert kept in holding
    fastest = min(one.latency.median_ms for one in holding)
    assert kept.latency.median_ms <= (TIE * fastest if noisy else fastest)
    assert {*decision.tied} <= {one.label for one in holding} - {kept.label}


def test_the_fastest_that_holds_wins_however_large(way: MakeWay) -> None:
    ways = [
        way("wrong", 1.0, drop=1.2, stored="int8"),
        way("large", 2.0, file_bytes=20_000_000),
        way("small", 2.1, file_bytes=1_000_000),
    ]
    assert choose(ways, 1.0, always).label == "large"


def test_of_ways_not_measurably_slower_the_small_one_is_kept_and_said(way: MakeWay) -> None:
    ways = [way("large", 2.0), way("small", 2.1, stored="int8", file_bytes=1_000_000, drop=0.4)]
    decision = choose(ways, 1.0, never)
    assert decision.label == "small"
    assert decision.tied == ("large",)
    assert "smaller than large" in decision.reason
    assert "not measurably slower" in decision.reason


def test_of_equally_fast_files_the_more_exact_arithmetic_is_kept(way: MakeWay) -> None:
    ways = [way("bf16", 2.0, precision="bf16"), way("fp32", 2.1, file_bytes=4_100_000), way("two", 2.1, threads=2)]
    decision = choose(ways, 1.0, never)
    assert decision.label == "fp32"
    assert "more exact" in decision.reason


def test_noise_does_not_make_a_slow_way_a_tie(way: MakeWay) -> None:
    assert choose([way("fast", 2.0), way("slow", 2.5, file_bytes=10_000)], 1.0, never).label == "fast"


def test_where_nothing_holds_a_float_file_is_kept_and_said(way: MakeWay) -> None:
    ways = [way("int8", 1.0, drop=2.0, stored="int8"), way("float", 3.0, drop=2.5), way("worse", 2.0, drop=2.6)]
    decision = choose(ways, 1.0, always)
    assert (decision.label, decision.holds) == ("float", False)
    assert "--max-drop" in decision.reason


def test_a_drop_of_exactly_the_bound_holds(way: MakeWay) -> None:
    assert 64.01 - 63.01 > 1.0  # what rounding makes of one point
    assert choose([way("one point", 1.0, drop=64.01 - 63.01)], 1.0, always).holds


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="no way"):
        choose([], 1.0, always)
