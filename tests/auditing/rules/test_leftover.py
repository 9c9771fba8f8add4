from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mobilenets.auditing.structure.draft import SHARED
from mobilenets.auditing.structure.layers import ChainLayer, TablePlace, UnplacedOperator

if TYPE_CHECKING:
    from conftest import Bench


@pytest.mark.parametrize(
    ("operator", "errors", "notes"),
    [
        (UnplacedOperator("blocks.3", "dropout of rate 0.1"), [], ["dropout"]),
        (UnplacedOperator("blocks.3", "a cumulative sum", 10), ["unfolded"], []),
        (UnplacedOperator("blocks.3", SHARED, -100), ["weights-shared"], []),
    ],
)
def test_operators_without_a_place(
    bench: Bench, operator: UnplacedOperator, errors: list[str], notes: list[str]
) -> None:
    found = bench.chain("mobilenet_v2")
    found = replace(found, unfolded=(operator,), parameters=found.parameters + operator.parameters)
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), verdict.notes()) == (errors, notes)
    assert verdict.unexplained == (0, 0)


def test_single_layers_missing_and_extra(bench: Bench) -> None:
    missing = bench.mistake("mobilenet_v2", lambda layer, place: None if place.part == "head" else layer)
    assert "layer-missing" in missing.errors()

    def doubled(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
        here = (place.block, place.part) == (5, "expand")
        return [layer, replace(layer, shortcut=None, path="extra")] if here else layer

    assert bench.mistake("mobilenet_v2", doubled).errors() == ["layer-extra"]


def test_whatever_is_left_is_said_by_attribute(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, enters=(16, 55)) if (place.block, place.part) == (2, "expand") else layer

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["other"]
    assert verdict.the("other").diagnostic.expected.startswith("enters: ")


def test_a_chain_of_dense_filters_is_no_mobilenet(bench: Bench) -> None:
    layers = tuple(ChainLayer(64 * number, kernel=3, stride=2, activation="relu", bias=True) for number in (1, 2, 4, 8))
    found = bench.chain("mobilenet_v2")
    found = replace(found, layers=(*layers, found.layers[-1]))
    verdict = bench.apply(found)
    assert verdict.errors() == ["not-a-mobilenet"]
    assert "--expect" in verdict.the("not-a-mobilenet").diagnostic.fix
    named = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert "not-a-mobilenet" not in named.errors()
