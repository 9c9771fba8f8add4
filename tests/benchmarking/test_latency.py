import gc
import time

import numpy as np
import pytest

from mobilenets.benchmarking.latency import round_order, summarize, time_rounds
from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.results import Latency


def measure_latency(calls, **options):
    return {name: summarize(times) for name, times in time_rounds(calls, **options).items()}


class Clock:
    """A clock that only moves when a call takes its time."""

    def __init__(self):
        self.now = 0
        self.calls = []

    def __call__(self):
        return self.now

    def taking(self, name, *milliseconds):
        def call():
            took = milliseconds[self.calls.count(name) % len(milliseconds)]
            self.calls.append(name)
            self.now += int(took * 1e6)

        return call


@pytest.mark.slow
def test_each_call_gets_its_own_time():
    clock = Clock()
    result = measure_latency(
        {"a": clock.taking("a", 1, 2, 3, 4, 5), "b": clock.taking("b", 7)}, warmup=0, rounds=5, clock=clock
    )
    assert result["a"] == Latency(median_ms=3, p95_ms=4.8, iqr_ms=2, calls=5)
    assert result["b"] == Latency(median_ms=7, p95_ms=7, iqr_ms=0, calls=5)


@pytest.mark.slow
def test_warm_up_is_not_measured():
    clock = Clock()
    result = measure_latency({"a": clock.taking("a", 1000, 1000, 1, 1, 1)}, warmup=2, rounds=3, clock=clock)
    assert (result["a"].p95_ms, result["a"].calls, len(clock.calls)) == (1, 3, 5)


@pytest.mark.slow
def test_rounds_alternate_and_no_one_is_always_first():
    clock = Clock()
    measure_latency({name: clock.taking(name, 1) for name in "ABC"}, warmup=0, rounds=6, clock=clock)
    order = "".join(clock.calls)
    assert [order[i : i + 3] for i in range(0, 18, 3)] == ["ABC", "BCA", "CAB", "CBA", "ACB", "BAC"]
    assert round_order("ABC", 6) == ("A", "B", "C")


@pytest.mark.slow
def test_the_budget_gives_fast_calls_more_rounds_and_slow_ones_enough():
    clock = Clock()
    fast = measure_latency({"fast": clock.taking("fast", 1)}, warmup=0, rounds=10, seconds=0.1, clock=clock)
    assert fast["fast"].calls == 100
    slow = measure_latency({"slow": clock.taking("slow", 1000)}, warmup=0, rounds=10, seconds=0.1, clock=clock)
    assert slow["slow"].calls == 10


@pytest.mark.slow
def test_garbage_collection_is_paused_and_restored_even_after_a_failure():
    states = []

    def call():
        states.append(gc.isenabled())
        raise RuntimeError("broken network")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="broken network"):
        measure_latency({"a": call}, warmup=0, rounds=1)
    assert (states, gc.isenabled()) == ([False], True)


@pytest.mark.slow
def test_progress_counts_rounds():
    seen = []
    measure_latency({"a": lambda: None, "b": lambda: None}, rounds=3, progress=seen.append)
    assert seen == [1, 2, 3]


@pytest.mark.slow
def test_the_real_clock_orders_a_short_and_a_long_sleep():
    result = measure_latency({"long": lambda: time.sleep(0.02), "short": lambda: None}, warmup=1, rounds=5)
    assert result["long"].median_ms >= 19
    assert result["short"].median_ms < result["long"].median_ms


def test_summary_is_numpys_percentiles():
    values = np.random.default_rng(0).integers(1, 10**7, 101)
    summary = summarize(values)
    assert summary.median_ms == pytest.approx(np.median(values) / 1e6)
    assert summary.p95_ms == pytest.approx(np.percentile(values, 95) / 1e6)


@pytest.mark.parametrize(
    ("calls", "options"),
    [({}, {}), ({"a": int}, {"warmup": -1}), ({"a": int}, {"rounds": 0}), ({"a": int}, {"seconds": float("nan")})],
)
def test_bad_input(calls, options):
    with pytest.raises(MobilenetsError):
        measure_latency(calls, **options)
