from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.auditing.structure.layers import ChainLayer, Padding, Pooling, TablePlace

if TYPE_CHECKING:
    from conftest import Bench


def test_classes_other_than_1000_are_a_note(bench: Bench) -> None:
    ten = bench.judge(bench.chain("mobilenet_v2", num_classes=10))
    assert (ten.errors(), ten.notes(), ten.difference) == ([], ["classes"], (0, 0))

    def background(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=1001) if place.part == "classifier" else layer

    verdict = bench.mistake("mobilenet_v2", background)
    assert (verdict.errors(), verdict.notes()) == ([], ["classes-1001"])
    assert verdict.the("classes-1001").parameters == 1281
    assert "background" in verdict.the("classes-1001").diagnostic.found


def test_a_fixed_window_is_an_error_in_a_module_and_a_note_in_a_file(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", pooling=Pooling("fixed", 7, "pool"))
    module = bench.judge(found, "mobilenet_v2", width_mult=1.0)
    assert module.errors() == ["pooling-fixed"]
    assert module.the("pooling-fixed").diagnostic.where == ("pool",)
    file = bench.judge(found, "mobilenet_v2", width_mult=1.0, front_end="ONNX")
    assert (file.errors(), file.notes()) == ([], ["pooling-fixed"])


def test_no_pool_at_all_costs_a_weight_for_every_place(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", pooling=Pooling("flatten", 7))
    verdict = bench.judge(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["pooling"]
    assert verdict.the("pooling").parameters == 48 * 1280 * 1000


def test_dropout_stochastic_depth_and_image_channels_are_notes(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", dropout=0.5, drop_path=0.1, in_channels=1)
    verdict = bench.judge(found, "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), sorted(verdict.notes())) == ([], ["drop-path", "dropout", "image-channels"])
    assert verdict.the("image-channels").parameters == -2 * 9 * 32


def test_probabilities_are_right_in_a_file_and_wrong_in_a_module(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", final="softmax")
    assert bench.judge(found, "mobilenet_v2", width_mult=1.0).errors() == ["final-activation"]
    assert bench.judge(found, "mobilenet_v2", width_mult=1.0, front_end="TensorFlow Lite").errors() == []


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
