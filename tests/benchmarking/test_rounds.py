import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.benchmarking.latency import LEAST_ROUNDS, Timed, time_turns
from mobilenets.errors import BackendError


class Taker:
    """Answers turns with given milliseconds, and notes its name in a shared list."""

    def __init__(self, name, order, *milliseconds, dies_after=None):
        self.name, self.order, self.milliseconds, self.dies_after = name, order, milliseconds, dies_after
        self.turns = 0

    def turn(self, batch_size, seconds):
        if self.turns == self.dies_after:
            raise BackendError("out of memory")
        time = self.milliseconds[self.turns % len(self.milliseconds)]
        self.turns += 1
        self.order.append(self.name)
        return [round(time * 1e6)] * 3


def takers(order, **times):
    return {name: Taker(name, order, *values) for name, values in times.items()}


def test_turns_alternate_and_no_one_is_always_first():
    order = []
    time_turns(takers(order, a=[1.0], b=[1.0], c=[1.0]), 1, seconds=0)
    rounds = ["".join(order[i : i + 3]) for i in range(3, len(order), 3)]  # the first is warm-up
    assert rounds[:6] == ["abc", "bca", "cab", "cba", "acb", "bac"]
    assert len(rounds) == LEAST_ROUNDS


def test_warm_up_is_dropped_and_every_call_counts():
    timed = time_turns(takers([], a=[1000.0, *[2.0] * 10], b=[7.0]), 4, seconds=0)
    measured = timed.measurement("a", 4)
    assert (measured.latency.median_ms, measured.latency.p95_ms, measured.latency.calls) == (2.0, 2.0, 30)
    assert measured.images_per_second == pytest.approx(2000)
    assert timed.turns["b"] == [7.0] * LEAST_ROUNDS


def test_rounds_go_on_until_the_budget_is_measured():
    shares = []
    timed = time_turns(takers([], a=[10.0], b=[30.0]), 1, seconds=1.2, progress=shares.append)
    assert len(timed.turns["a"]) == 20  # 3 x 40 ms a round, of 2.4 s
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_every_turn_weighs_equally_however_many_calls_it_had():
    """Six turns of a slow moment with one call each, four of a good one with a hundred: the slow ones are most."""
    timed = Timed({"a": [[10_000_000]] * 6 + [[1_000_000] * 100] * 4})
    latency = timed.measurement("a", 1).latency
    assert (latency.median_ms, latency.p95_ms, latency.iqr_ms, latency.calls) == (10.0, 10.0, 9.0, 406)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), min_size=1, max_size=8))
def test_the_tail_is_never_below_the_median(calls):
    latency = Timed({"a": calls}).measurement("a", 1).latency
    assert latency.p95_ms >= latency.median_ms * (1 - 1e-9)
    assert latency.iqr_ms >= 0


def test_one_that_dies_is_left_out_and_the_others_go_on():
    order = []
    given = takers(order, a=[1.0], b=[2.0])
    given["dead"] = Taker("dead", order, 1.0, dies_after=4)
    timed = time_turns(given, 8, seconds=0)
    assert [(one.label, one.reason) for one in timed.failures] == [("dead", "batch 8: out of memory")]
    assert set(timed.calls) == set(timed.turns) == {"a", "b"}
    assert len(timed.turns["a"]) == len(timed.turns["b"]) == LEAST_ROUNDS


def test_no_one_left_ends_it():
    timed = time_turns({"a": Taker("a", [], 1.0, dies_after=0)}, 1, seconds=5)
    assert (timed.calls, len(timed.failures)) == ({}, 1)
