from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import timm
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large

from mobilenets.auditing.result import Audit
from mobilenets.auditing.structure.layers import AttentionUnit, ChainLayer, Grouping, Padding, TablePlace
from mobilenets.workflows.audit import audit

if TYPE_CHECKING:
    from conftest import Bench, Edit


def with_fields(part: str, block: int | None = None, **changes: Any) -> Edit:
    """The layers of this part, of one block or of all, with these fields."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        here = place.part == part and block in (None, place.block)
        return replace(layer, **changes) if here else layer

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "rule"),
    [
        ("mobilenet_v2", with_fields("spatial", dilation=2), "dilation"),
        ("mobilenet_v2", with_fields("expand", 5, grouping=Grouping.GROUPED, groups=4), "grouping"),
        ("mobilenet_v2", with_fields("spatial", 5, multiplier=2), "depth-multiplier"),
        ("mobilenet_v2", with_fields("project", 5, layer_scale=True), "layer-scale"),
        ("mobilenet_v2", with_fields("project", 5, attention=AttentionUnit(4, 1000, 1000)), "attention"),
        ("mobilenet_v3_large", with_fields("penultimate", pooled=False), "pooled"),
    ],
)
def test_each_mistake_is_one_error(bench: Bench, name: str, edit: Edit, rule: str) -> None:
    verdict = bench.mistake(name, edit)
    assert (verdict.errors()[:1], verdict.notes()) == ([rule], [])
    assert verdict.unexplained == (0, 0)


def test_more_groups_than_published(bench: Bench) -> None:
    """No paper has grouped convolutions: the number alone differs in no network, only in a chain made for the test."""
    verdict = bench.mistake("mobilenet_v2", with_fields("expand", 5, groups=2))
    assert verdict.errors() == ["groups"]


def test_zeros_in_front_of_the_block_are_one_error(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if (place.block, place.part) == (5, "expand"):
            return replace(layer, padding=Padding.OTHER, zeros=(1, 1))
        if (place.block, place.part) == (5, "spatial"):
            return replace(layer, padding=Padding.VALID)
        return layer

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["padding-place"]
    assert "1 pixel of zeros on each side" in verdict.the("padding-place").diagnostic.found


def test_a_blur_that_does_the_stride_is_a_note(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v2", with_fields("spatial", 4, anti_alias=True))
    assert (verdict.errors(), verdict.notes()) == ([], ["anti-alias"])


def test_same_padding_everywhere_is_a_note_and_a_mixture_an_error(bench: Bench) -> None:
    def same(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, padding=Padding.SAME) if layer.stride > 1 else layer

    verdict = bench.mistake("mobilenet_v2", same)
    assert (verdict.errors(), verdict.notes()) == ([], ["same-padding"])

    def mixed(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, padding=Padding.SAME) if place.part == "stem" else layer

    assert bench.mistake("mobilenet_v2", mixed).errors() == ["padding"]


def test_kernels_and_padding_left_out(bench: Bench) -> None:
    def small(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, kernel=3) if layer.kernel == 5 else layer

    verdict = bench.mistake("mobilenet_v3_large", small)
    assert verdict.errors() == ["kernel"]
    assert verdict.the("kernel").diagnostic.expected == "a 5x5 filter"

    def valid(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, padding=Padding.VALID) if place.part == "stem" else layer

    assert bench.mistake("mobilenet_v2", valid).errors() == ["padding"]


def closed(target: nn.Module | Path, size: int | None = None) -> Audit:
    result = audit(target, image_size=size)
    assert (result.unexplained_parameters, result.unexplained_macs) == (0, 0)
    return result


@pytest.mark.parametrize(
    ("build", "block", "kernel", "sides", "parameters"),
    [
        (mobilenet_v2, 3, (1, 3), "1 by 3", -864),
        (mobilenet_v2, 3, (3, 1), "1 by 3", -864),
        (mobilenet_v2, 3, (3, 5), "3 by 5", 864),
        (mobilenet_v3_large, 5, (1, 3), "1 by 3", -2640),
    ],
)
@pytest.mark.slow
def test_a_filter_with_two_sides_is_one_finding(
    build: type[nn.Module], block: int, kernel: tuple[int, int], sides: str, parameters: int
) -> None:
    network = build()
    for holder in network.get_submodule(f"features.{block}").modules():
        if isinstance(holder, nn.Sequential) and isinstance(conv := holder[0], nn.Conv2d) and conv.groups > 1:
            padding = kernel[0] // 2, kernel[1] // 2
            holder[0] = nn.Conv2d(
                conv.in_channels, conv.out_channels, kernel, conv.stride, padding, groups=conv.groups, bias=False
            )
    (error,) = closed(network, 96).errors
    assert (error.diagnostic.rule, error.parameters) == ("kernel", parameters)
    assert f"not square: {sides}" in error.diagnostic.found


@pytest.mark.parametrize("name", ["mobilenetv4_conv_aa_medium", "mobilenetv4_conv_blur_medium"])
@pytest.mark.slow
def test_pools_that_do_the_strides_are_no_error_at_odd_sizes(name: str) -> None:
    result = closed(timm.create_model(name), 225)
    assert result.errors == ()
    reported = [one.diagnostic.rule for one in result.findings]
    assert ("odd-map" in reported) == ("_aa_" in name)
