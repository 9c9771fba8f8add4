"""The ladder, found with made files whose accuracy is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mobilenets.errors import QuantizationError
from mobilenets.exporters.prepare import Exported
from mobilenets.quantization.results import Rung, Top1
from mobilenets.quantization.search import Ladder, LadderStep, QuantizedFile, search_ladder

FLOAT = Top1(90.0, 88.0, 89.0)
Settings = frozenset[str]


def add(name: str) -> LadderStep[Settings]:
    return LadderStep(name, f"adds {name}", lambda settings: settings | {name})


def ladder(*names: str, tried: list[Settings] | None = None) -> Ladder[Settings]:
    def build(settings: Settings) -> QuantizedFile:
        if tried is not None:
            tried.append(settings)
        return QuantizedFile(Exported({"file": "+".join(sorted(settings)).encode()}, dynamic_batch=True))

    return Ladder(frozenset(), (add(name) for name in names), build)


def accuracy(gains: dict[str, float]):  # type: ignore[no-untyped-def]
    def score(built: QuantizedFile) -> Top1:
        parts = built.exported.payload["file"].decode().split("+")
        top1 = 80.0 + sum(gains.get(part, 0.0) for part in parts)
        return Top1(top1, top1 - 2, top1 - 1)

    return score


def test_it_stops_at_the_first_rung_within_the_drop() -> None:
    found = search_ladder(ladder("a", "b", "c"), accuracy({"b": 9.5, "c": 1.0}), FLOAT, max_drop=1.0)
    assert [rung.name for rung in found.rungs] == ["a", "b"]
    assert found.chosen is not None
    assert found.chosen.exported.payload == {"file": b"a+b"}
    assert found.rungs[1].drop == Top1(0.5, 0.5, 0.5)
    assert found.rungs[1].bought == pytest.approx(9.5)


def test_a_change_that_wins_nothing_is_dropped() -> None:
    tried: list[Settings] = []
    search_ladder(
        ladder("a", "worse", "b", "c", tried=tried), accuracy({"a": 1, "worse": -3, "b": 2, "c": 0}), FLOAT, max_drop=0
    )
    assert tried == [{"a"}, {"a", "worse"}, {"a", "b"}, {"a", "b", "c"}]


def test_it_refuses_and_says_what_every_rung_bought() -> None:
    told: list[Rung] = []
    found = search_ladder(ladder("a", "b"), accuracy({"a": 1, "b": 3}), FLOAT, max_drop=2, on_rung=told.append)
    assert found.chosen is None
    assert tuple(told) == found.rungs
    assert [rung.bought for rung in told] == [0.0, 3.0]
    assert [rung.drop.selection for rung in told] == [9.0, 6.0]


def test_exactly_the_drop_is_within_it() -> None:
    assert search_ladder(ladder("a"), accuracy({"a": 9}), FLOAT, max_drop=1.0).chosen is not None


def test_an_error_of_rounding_does_not_decide() -> None:
    reference, scored = Top1(90.3, 90.3, 90.3), Top1(89.3 - 1e-13, 89.3, 89.3)
    assert reference.selection - scored.selection > 1.0
    assert search_ladder(ladder("a"), lambda built: scored, reference, max_drop=1.0).chosen is not None


def test_the_drop_must_be_within_on_the_deciding_half_and_on_all() -> None:
    def scored(selection: float, whole: float):  # type: ignore[no-untyped-def]
        return lambda built: Top1(selection, report=2 * whole - selection, whole=whole)

    for selection, whole, taken in ((89.5, 88.5, True), (89.5, 87.5, False), (88.5, 88.5, False)):
        found = search_ladder(ladder("a"), scored(selection, whole), FLOAT, max_drop=1.0)
        assert (found.chosen is not None) == taken
        assert found.rungs[0].lost == pytest.approx(max(90 - selection, 89 - whole))


def test_later_steps_are_not_even_made_when_an_earlier_one_is_enough() -> None:
    made: list[str] = []

    def steps() -> Iterator[LadderStep[Settings]]:
        for name in ("a", "b"):
            made.append(name)
            yield add(name)

    plain = ladder()
    search_ladder(Ladder(plain.start, steps(), plain.build), accuracy({"a": 10}), FLOAT, max_drop=1.0)
    assert made == ["a"]


def test_a_ladder_without_steps_is_refused() -> None:
    with pytest.raises(QuantizationError, match="left to try"):
        search_ladder(ladder(), accuracy({}), FLOAT, max_drop=1.0)
