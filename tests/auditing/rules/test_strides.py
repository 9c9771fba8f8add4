from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.auditing.structure.layers import ChainLayer, Grouping, Shortcut, ShortcutKind, TablePlace

if TYPE_CHECKING:
    from conftest import Bench, Edit


def strided(strides: dict[int, int]) -> Edit:
    """Blocks' filters with these strides."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return (
            replace(layer, stride=strides[place.block]) if place.part == "spatial" and place.block in strides else layer
        )

    return edit


def test_a_stride_moved_from_64_to_96_channels_keeps_every_parameter(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", strided({7: 1, 11: 2}))
    assert found.parameters == 3_504_872
    assert round(found.macs / 1e4) == 41_627
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["stride-shifted"]
    finding = verdict.the("stride-shifted")
    assert (finding.parameters, finding.macs) == verdict.difference
    assert finding.diagnostic.expected == "stride 2 in block 7"
    assert finding.diagnostic.found == "stride 1 there, stride 2 in block 11"


def test_the_last_v1_filter_at_stride_2(bench: Bench) -> None:
    found = bench.chain("mobilenet_v1", strided({13: 2}))
    assert round(found.macs / 1e4) == 53_383
    assert bench.apply(found, "mobilenet_v1", width_mult=1.0).errors() == ["strides"]


def test_early_strides_left_out_are_the_form_for_small_images(bench: Bench) -> None:
    def stem(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, stride=1) if place.part == "stem" else layer

    verdict = bench.mistake("mobilenet_v2", stem)
    assert (verdict.errors(), verdict.notes()) == ([], ["input-strides"])


def test_a_filter_beside_that_takes_the_stride_is_one_extra_layer(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer | list[ChainLayer]:
        if (place.block, place.part) != (4, "spatial"):
            return layer
        return [replace(layer, stride=1), replace(layer, grouping=Grouping.DENSE, norms=(), path="4.extra")]

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["layer-extra"]
    assert "takes the stride" in verdict.the("layer-extra").diagnostic.found


def test_a_stage_that_ends_a_block_early_is_a_matter_of_repeats(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if (place.block, place.part) == (10, "project"):
            return replace(layer, out_channels=96, shortcut=None)
        if place.block == 11 and place.part in ("expand", "spatial"):
            return replace(layer, out_channels=576)
        if (place.block, place.part) == (11, "project"):
            return replace(layer, shortcut=Shortcut(ShortcutKind.IDENTITY, 3))
        return layer

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["repeats"]
    assert verdict.the("repeats").diagnostic.expected == "4 blocks of 64 channels and 3 of 96"


def test_the_rows_of_the_first_version_of_the_v3_paper(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if place.part == "spatial" and place.block == 13:
            return replace(layer, stride=1)
        if place.block == 14 and place.part in ("expand", "spatial"):
            squeeze = replace(layer.squeeze, channels=168) if layer.squeeze else None
            stride = 2 if place.part == "spatial" else 1
            return replace(layer, out_channels=672, stride=stride, squeeze=squeeze)
        return replace(layer, shortcut=None) if (place.block, place.part) == (14, "project") else layer

    found = bench.chain("mobilenet_v3_large", edit)
    assert (found.parameters, round(found.macs / 1e4)) == (5_147_152, 24_557)
    verdict = bench.apply(found, "mobilenet_v3_large", width_mult=1.0)
    assert verdict.errors() == ["v3-first-version"]
    assert verdict.unexplained == (0, 0)
