from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.auditing.structure.layers import ChainLayer, Pooling, TablePlace

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
    verdict = bench.judge(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["stride-shifted"]
    finding = verdict.the("stride-shifted")
    assert (finding.parameters, finding.macs) == verdict.difference
    assert finding.diagnostic.expected == "stride 2 in block 7"
    assert finding.diagnostic.found == "stride 1 there, stride 2 in block 11"


def test_the_last_v1_filter_at_stride_2(bench: Bench) -> None:
    found = bench.chain("mobilenet_v1", strided({13: 2}))
    assert round(found.macs / 1e4) == 53_383
    assert bench.judge(found, "mobilenet_v1", width_mult=1.0).errors() == ["strides"]


def test_early_strides_left_out_are_the_form_for_small_images(bench: Bench) -> None:
    def stem(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, stride=1) if place.part == "stem" else layer

    verdict = bench.mistake("mobilenet_v2", stem)
    assert (verdict.errors(), verdict.notes()) == ([], ["input-strides"])
    planned = bench.judge(bench.chain("mobilenet_v2", image_size=32, imagenet_strides=False))
    assert (planned.errors(), planned.notes()) == ([], ["input-strides"])


def test_a_last_map_of_one_place_is_an_error(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", image_size=32, num_classes=10, pooling=Pooling("global", 1, "pool"))
    verdict = bench.judge(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["last-map-1x1"]
    assert verdict.the("last-map-1x1").diagnostic.where == ("pool",)
