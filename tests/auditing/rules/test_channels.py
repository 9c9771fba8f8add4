from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mobilenets.auditing.structure.layers import Chain, ChainLayer, Shortcut, ShortcutKind, TablePlace
from mobilenets.auditing.structure.published import reference

if TYPE_CHECKING:
    from conftest import Bench, Edit


def rounded(name: str, width: float, rounding: Callable[[float], int]) -> Edit:
    """V2's channels by another rounding of the table's; hidden widths follow their inputs."""
    whole = reference(name, width_mult=1.0)
    table = {(place.block, place.part): layer for layer, place in zip(whole.chain.layers, whole.places, strict=True)}
    entering = [0]

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if place.part in ("classifier", "spatial"):
            return layer
        if place.part == "expand":
            return replace(layer, out_channels=round(entering[0] * place.expand_ratio))
        factor = max(1.0, width) if place.part == "head" else width
        channels = rounding(table[place.block, place.part].out_channels * factor)
        entering[0] = channels
        return replace(layer, out_channels=channels)

    return edit


def nearest(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)


@pytest.mark.parametrize(
    ("width", "rounding", "rule", "parameters"),
    [
        (1.4, int, "rounding-missing", 6_082_580),
        (0.35, nearest, "rounding-ten-percent", 1_667_528),
        (0.75, nearest, "rounding-ten-percent", 2_627_464),
    ],
)
def test_rounding_is_recognized_and_accounts_for_everything(
    bench: Bench, width: float, rounding: Callable[[float], int], rule: str, parameters: int
) -> None:
    found = bench.chain("mobilenet_v2", rounded("mobilenet_v2", width, rounding), width_mult=width)
    assert found.parameters == parameters
    verdict = bench.apply(found, "mobilenet_v2", width_mult=width)
    assert verdict.errors() == [rule]
    assert verdict.the(rule).parameters == verdict.difference[0]


@pytest.mark.parametrize(
    ("width", "head", "rule", "parameters"),
    [
        (0.35, 448, "head-scaled", 750_280),
        (0.5, 640, "head-scaled", 1_225_000),
        (0.75, 960, "head-scaled", 2_238_984),
        (1.4, 1280, "head-not-scaled", 5_366_376),
        (1.3, 1280, "head-not-scaled", 4_842_280),
        (1.0, 1024, "head-width", None),
    ],
)
def test_the_head_by_width(bench: Bench, width: float, head: int, rule: str, parameters: int | None) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=head) if place.part == "head" else layer

    found = bench.chain("mobilenet_v2", edit, width_mult=width)
    assert parameters in (None, found.parameters)
    assert bench.apply(found, "mobilenet_v2", width_mult=width).errors() == [rule]


def test_v3_small_with_the_head_of_large(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=1280) if place.part == "penultimate" else layer

    found = bench.chain("mobilenet_v3_small", edit)
    assert found.parameters == 2_946_568
    assert bench.apply(found, "mobilenet_v3_small", width_mult=1.0).errors() == ["head-width"]


def from_outputs(chain: Chain, places: tuple[TablePlace, ...]) -> dict[int, int]:
    """Of each block, t times the channels that leave it."""
    pairs = list(zip(chain.layers, places, strict=True))
    leaving = {place.block: layer.out_channels for layer, place in pairs if place.part == "project"}
    return {
        place.block: round(leaving[place.block] * place.expand_ratio) for _, place in pairs if place.part == "expand"
    }


def test_hidden_widths_from_the_outputs(bench: Bench) -> None:
    published = reference("mobilenet_v2", width_mult=1.0)
    hidden = from_outputs(published.chain, published.places)

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=hidden[place.block]) if place.part == "expand" else layer

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["hidden-from-output"]
    # Blocks 2, 4, 7, 11, 14 and 17 change the channels; elsewhere the mistake can't be seen.
    assert verdict.the("hidden-from-output").diagnostic.where == tuple(
        f"{block}.expand" for block in (2, 4, 7, 11, 14, 17)
    )


def test_v3_scaled_as_torchvision_does(bench: Bench) -> None:
    whole = reference("mobilenet_v3_large", width_mult=1.0)
    table = {
        place.block: layer.out_channels
        for layer, place in zip(whole.chain.layers, whole.places, strict=True)
        if place.part == "expand"
    }

    def divisible(channels: float) -> int:
        rounded_channels = nearest(channels)
        return rounded_channels + 8 if rounded_channels < 0.9 * channels else rounded_channels

    hidden: dict[int, int] = {}

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if place.part == "expand":
            hidden[place.block] = divisible(table[place.block] * 0.75)
            return replace(layer, out_channels=hidden[place.block])
        if layer.squeeze is not None:
            squeeze = replace(layer.squeeze, channels=divisible(hidden[place.block] / 4))
            return replace(layer, squeeze=squeeze)
        return replace(layer, out_channels=960) if place.part == "penultimate" else layer

    found = bench.chain("mobilenet_v3_large", edit, width_mult=0.75)
    assert found.parameters == 3_377_576
    verdict = bench.apply(found, "mobilenet_v3_large", width_mult=0.75)
    assert verdict.errors() == ["v3-scaled-table", "head-scaled"]


def test_another_expansion_ratio_and_another_row(bench: Bench) -> None:
    def ratio(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=layer.out_channels * 4 // 6) if place.part == "expand" else layer

    verdict = bench.mistake("mobilenet_v2", ratio)
    assert verdict.errors() == ["expand-ratio"]
    assert verdict.the("expand-ratio").diagnostic.found == "t=4"

    def row(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if place.block in (11, 12, 13) and place.part == "project":
            return replace(layer, out_channels=104)
        entered_by_104 = place.block in (12, 13, 14) and place.part == "expand"
        return replace(layer, out_channels=624) if entered_by_104 else layer

    verdict = bench.mistake("mobilenet_v2", row)
    assert verdict.errors() == ["channels"]
    assert verdict.the("channels").diagnostic.expected == "96 channels"


def test_a_padded_shortcut_is_no_consequence_of_other_channels(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if place.part == "expand" and place.block == 11:
            return replace(layer, out_channels=layer.out_channels + 8)
        if place.part == "project" and place.block == 11:
            return replace(layer, shortcut=Shortcut(ShortcutKind.PADDED, span=3))
        return layer

    assert len(bench.mistake("mobilenet_v2", edit).errors()) == 2
