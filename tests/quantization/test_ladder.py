"""The ladder, climbed with made files whose accuracy is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mobilenets.errors import QuantizationError
from mobilenets.exporters.prepare import Exported
from mobilenets.quantization.results import Rung, Top1
from mobilenets.quantization.search import Built, Ladder, Step, climb

FLOAT = Top1(90.0, 88.0, 89.0)
Settings = frozenset[str]


def add(name: str) -> Step[Settings]:
    return Step(name, f"adds {name}", lambda settings: settings | {name})


def ladder(*names: str, tried: list[Settings] | None = None) -> Ladder[Settings]:
    def build(settings: Settings) -> Built:
        if tried is not None:
            tried.append(settings)
        return Built(Exported({"file": "+".join(sorted(settings)).encode()}, dynamic_batch=True))

    return Ladder(frozenset(), (add(name) for name in names), build)


def judge(gains: dict[str, float]):  # type: ignore[no-untyped-def]
    def score(built: Built) -> Top1:
        parts = built.exported.payload["file"].decode().split("+")
        top1 = 80.0 + sum(gains.get(part, 0.0) for part in parts)
        return Top1(top1, top1 - 2, top1 - 1)

    return score


def test_it_stops_at_the_first_rung_within_the_drop() -> None:
    climbed = climb(ladder("a", "b", "c"), judge({"b": 9.5, "c": 1.0}), FLOAT, max_drop=1.0)
    assert [rung.name for rung in climbed.rungs] == ["a", "b"]
    assert climbed.chosen is not None
    assert climbed.chosen.exported.payload == {"file": b"a+b"}
    assert climbed.rungs[1].drop == Top1(0.5, 0.5, 0.5)
    assert climbed.rungs[1].bought == pytest.approx(9.5)


def test_a_change_that_wins_nothing_is_dropped() -> None:
    tried: list[Settings] = []
    climb(ladder("a", "worse", "b", "c", tried=tried), judge({"a": 1, "worse": -3, "b": 2, "c": 0}), FLOAT, max_drop=0)
    assert tried == [{"a"}, {"a", "worse"}, {"a", "b"}, {"a", "b", "c"}]


def test_it_refuses_and_says_what_every_rung_bought() -> None:
    told: list[Rung] = []
    climbed = climb(ladder("a", "b"), judge({"a": 1, "b": 3}), FLOAT, max_drop=2, on_rung=told.append)
    assert climbed.chosen is None
    assert tuple(told) == climbed.rungs
    assert [rung.bought for rung in told] == [0.0, 3.0]
    assert [rung.drop.selection for rung in told] == [9.0, 6.0]


def test_exactly_the_drop_is_within_it() -> None:
    assert climb(ladder("a"), judge({"a": 9}), FLOAT, max_drop=1.0).chosen is not None


def test_an_error_of_rounding_does_not_decide() -> None:
    reference, scored = Top1(90.3, 90.3, 90.3), Top1(89.3 - 1e-13, 89.3, 89.3)
    assert reference.selection - scored.selection > 1.0
    assert climb(ladder("a"), lambda built: scored, reference, max_drop=1.0).chosen is not None


def test_the_drop_must_be_within_on_the_deciding_half_and_on_all() -> None:
    def scored(selection: float, whole: float):  # type: ignore[no-untyped-def]
        return lambda built: Top1(selection, report=2 * whole - selection, whole=whole)

    for selection, whole, taken in ((89.5, 88.5, True), (89.5, 87.5, False), (88.5, 88.5, False)):
        climbed = climb(ladder("a"), scored(selection, whole), FLOAT, max_drop=1.0)
        assert (climbed.chosen is not None) == taken
        assert climbed.rungs[0].lost == pytest.approx(max(90 - selection, 89 - whole))


def test_later_steps_are_not_even_made_when_an_earlier_one_is_enough() -> None:
    made: list[str] = []

    def steps() -> Iterator[Step[Settings]]:
        for name in ("a", "b"):
            made.append(name)
            yield add(name)

    plain = ladder()
    climb(Ladder(plain.start, steps(), plain.build), judge({"a": 10}), FLOAT, max_drop=1.0)
    assert made == ["a"]


def test_a_ladder_without_steps_is_refused() -> None:
    with pytest.raises(QuantizationError, match="left to try"):
        climb(ladder(), judge({}), FLOAT, max_drop=1.0)
