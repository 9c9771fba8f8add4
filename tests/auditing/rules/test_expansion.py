from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.auditing.structure.layers import BatchNorm, ChainLayer, Grouping, TablePlace

if TYPE_CHECKING:
    from conftest import Bench


def kept(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
    """A 1x1 layer in front of the first block's filter."""
    if (place.block, place.part) != (1, "spatial"):
        return layer
    norm = (BatchNorm(layer.norms[0].eps, layer.norms[0].momentum),)
    extra = ChainLayer(layer.out_channels, norms=norm, activation=layer.activation, path="1.extra")
    return [extra, layer]


def test_the_expansion_kept_at_t_1_explains_1088_parameters(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v2", kept)
    assert verdict.errors() == ["expansion-kept"]
    assert verdict.notes() == []
    finding = verdict.the("expansion-kept")
    assert finding.parameters == 1_088
    assert finding.macs == 32 * 32 * 112**2
    assert finding.detail == "32x32 weights + 64 of batch norm"
    assert finding.diagnostic.where == ("1.extra",)
    assert "t=1" in finding.diagnostic.source


def test_so_it_is_in_both_v3(bench: Bench) -> None:
    for name, parameters in (("mobilenet_v3_large", 5_483_320), ("mobilenet_v3_small", 2_543_144)):
        verdict = bench.apply(found := bench.chain(name, kept), name, width_mult=1.0)
        assert verdict.errors() == ["expansion-kept"]
        assert found.parameters == parameters


def test_an_extra_1x1_elsewhere_is_no_expansion(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
        extra = replace(layer, out_channels=layer.out_channels, shortcut=None, path="extra")
        return [layer, extra] if (place.block, place.part) == (5, "expand") else layer

    assert bench.mistake("mobilenet_v2", edit).errors() == ["layer-extra"]


def test_dense_filters_are_one_finding_with_all_places(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, grouping=Grouping.DENSE) if place.part == "spatial" else layer

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["dense-for-depthwise"]
    assert len(verdict.the("dense-for-depthwise").diagnostic.where) == 17


def test_a_block_missing_or_extra_is_a_repeat(bench: Bench) -> None:
    missing = bench.mistake("mobilenet_v2", lambda layer, place: None if place.block == 9 else layer)
    assert missing.errors() == ["repeats"]
    assert "4 blocks" in missing.the("repeats").diagnostic.expected

    held: list[ChainLayer] = []

    def twice(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
        if place.block == 13:
            held.append(layer)
        return [layer, *held] if (place.block, place.part) == (13, "project") else layer

    extra = bench.mistake("mobilenet_v2", twice)
    assert extra.errors() == ["repeats"]
    assert "1 block more, of 96 channels" in extra.the("repeats").diagnostic.found


def test_no_expansion_or_one_where_none_belongs_is_another_ratio(bench: Bench) -> None:
    def without(layer: ChainLayer, place: TablePlace) -> ChainLayer | None:
        return None if (place.block, place.part) == (2, "expand") else layer

    missing = bench.mistake("mobilenet_v2", without)
    assert missing.errors() == ["expand-ratio"]
    assert missing.the("expand-ratio").diagnostic.found == "t=1: no expansion layer"

    def widened(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
        if (place.block, place.part) != (1, "spatial"):
            return layer
        extra = ChainLayer(64, norms=layer.norms, activation=layer.activation, path="1.extra")
        return [extra, replace(layer, out_channels=64)]

    extra = bench.mistake("mobilenet_v2", widened)
    assert extra.errors() == ["expand-ratio"]
    assert extra.the("expand-ratio").diagnostic.found == "t=2: 32 -> 64 channels"
