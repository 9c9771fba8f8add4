from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mobilenets.auditing.structure.layers import ChainLayer, TablePlace

if TYPE_CHECKING:
    from conftest import Bench, Edit


def with_squeeze(**changes: Any) -> Edit:
    """Every squeeze-and-excitation with these fields."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, squeeze=replace(layer.squeeze, **changes)) if layer.squeeze else layer

    return edit


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"before_activation": True}, "se-place"),
        ({"gate": "sigmoid"}, "hard-sigmoid-variant"),
        ({"gate": "hard_sigmoid_half"}, "hard-sigmoid-variant"),
        ({"activation": "hard_swish"}, "se-activation"),
        ({"bias": False}, "se-form"),
        ({"norms": 1}, "se-form"),
        ({"fixed_pool": 7}, "se-pool-fixed"),
    ],
)
def test_each_mistake_is_one_finding_with_all_places(bench: Bench, changes: dict[str, object], rule: str) -> None:
    verdict = bench.mistake("mobilenet_v3_large", with_squeeze(**changes))
    assert verdict.errors() == [rule]
    assert len(verdict.the(rule).diagnostic.where) == 8


def test_missing_and_extra(bench: Bench) -> None:
    def never(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, squeeze=None)

    assert bench.mistake("mobilenet_v3_large", never).errors() == ["se-missing"]
    published = bench.chain("mobilenet_v3_large").layers
    some = next(layer.squeeze for layer in published if layer.squeeze)

    def always(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, squeeze=layer.squeeze or some) if place.part == "spatial" else layer

    assert bench.mistake("mobilenet_v3_large", always).errors() == ["se-extra"]


def test_behind_the_projection(bench: Bench) -> None:
    held = {}

    def moved(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if layer.squeeze is not None:
            held[place.block] = layer.squeeze
            return replace(layer, squeeze=None)
        return replace(layer, squeeze=held.get(place.block)) if place.part == "project" else layer

    verdict = bench.mistake("mobilenet_v3_small", moved)
    assert verdict.errors() == ["se-place"]


@pytest.mark.parametrize(
    ("name", "of", "rule", "parameters"),
    [
        ("mobilenet_v3_large", "hidden", "se-rounding", 5_481_198),
        ("mobilenet_v3_small", "hidden", "se-rounding", 2_537_238),
        ("mobilenet_v3_large", "input", "se-width", 4_246_504),
        ("mobilenet_v3_small", "input", "se-width", 2_173_768),
    ],
)
def test_the_width_inside(bench: Bench, name: str, of: str, rule: str, parameters: int) -> None:
    def divisible(channels: float) -> int:
        rounded = max(8, int(channels + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels else rounded

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if layer.squeeze is None:
            return layer
        inside = layer.out_channels // 4 if of == "hidden" else divisible(place.in_channels / 4)
        return replace(layer, squeeze=replace(layer.squeeze, channels=inside))

    found = bench.chain(name, edit)
    assert found.parameters == parameters
    assert bench.apply(found, name, width_mult=1.0).errors() == [rule]


def test_another_reduction(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if layer.squeeze is None:
            return layer
        return replace(layer, squeeze=replace(layer.squeeze, channels=layer.out_channels // 2))

    assert "se-reduction" in bench.mistake("mobilenet_v3_large", edit).errors()
