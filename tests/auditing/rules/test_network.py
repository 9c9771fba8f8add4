from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from mobilenets.auditing.result import Audit
from mobilenets.auditing.structure.layers import ChainLayer, Pooling, TablePlace
from mobilenets.workflows.audit import audit

if TYPE_CHECKING:
    from conftest import Bench


@pytest.mark.slow
def test_classes_other_than_1000_are_a_note(bench: Bench) -> None:
    ten = bench.apply(bench.chain("mobilenet_v2", num_classes=10))
    assert (ten.errors(), ten.notes(), ten.difference) == ([], ["classes"], (0, 0))

    def background(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, out_channels=1001) if place.part == "classifier" else layer

    verdict = bench.mistake("mobilenet_v2", background)
    assert (verdict.errors(), verdict.notes()) == ([], ["classes-1001"])
    assert verdict.the("classes-1001").parameters == 1281
    assert "background" in verdict.the("classes-1001").diagnostic.found


def test_a_fixed_window_is_an_error_in_a_module_and_a_note_in_a_file(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", pooling=Pooling("fixed", 7, "pool"))
    module = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert module.errors() == ["pooling-fixed"]
    assert module.the("pooling-fixed").diagnostic.where == ("pool",)
    file = bench.apply(found, "mobilenet_v2", width_mult=1.0, front_end="ONNX")
    assert (file.errors(), file.notes()) == ([], ["pooling-fixed"])


def test_no_pool_at_all_costs_a_weight_for_every_place(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", pooling=Pooling("flatten", 7))
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["pooling"]
    assert verdict.the("pooling").parameters == 48 * 1280 * 1000


def test_dropout_stochastic_depth_and_image_channels_are_notes(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", dropout=0.5, drop_path=0.1, in_channels=1)
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), sorted(verdict.notes())) == ([], ["drop-path", "dropout", "image-channels"])
    assert verdict.the("image-channels").parameters == -2 * 9 * 32


def test_probabilities_are_right_in_a_file_and_wrong_in_a_module(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", final="softmax")
    assert bench.apply(found, "mobilenet_v2", width_mult=1.0).errors() == ["final-activation"]
    assert bench.apply(found, "mobilenet_v2", width_mult=1.0, front_end="TensorFlow Lite").errors() == []


def test_log_softmax_is_a_note(bench: Bench) -> None:
    verdict = bench.apply(bench.chain("mobilenet_v2", final="log_softmax"), "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), verdict.notes()) == ([], ["final-activation"])


def test_a_backbone_without_classifier_is_a_note(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", lambda layer, place: None if place.part == "classifier" else layer)
    verdict = bench.apply(replace(found, dropout=0.0), "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), verdict.notes()) == ([], ["no-classifier"])
    assert verdict.the("no-classifier").parameters == -1_281_000


def test_a_known_variant_is_a_note(bench: Bench) -> None:
    verdict = bench.apply(bench.chain("timm mobilenetv3_small_050", width_mult=0.5))
    assert (verdict.errors(), verdict.notes()) == ([], ["variant"])


def closed(target: nn.Module | Path, size: int | None = None) -> Audit:
    result = audit(target, image_size=size)
    assert (result.unexplained_parameters, result.unexplained_macs) == (0, 0)
    return result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
@pytest.mark.parametrize(
    "name", ["mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv4_conv_small"]
)
@pytest.mark.parametrize("shape", [(96, 160), (161, 95)])
def test_images_that_are_not_square_are_a_note(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    file = tmp_path / "net.onnx"
    torch.onnx.export(timm.create_model(name).eval(), (torch.zeros(1, 3, *shape),), str(file), dynamo=False)
    result = closed(file)
    assert result.errors == ()
    assert [one.diagnostic.rule for one in result.findings].count("image-shape") == 1


@pytest.mark.slow
def test_a_stride_of_one_direction_is_one_finding() -> None:
    network = mobilenet_v2()
    network.features[4].conv[1][0].stride = (1, 2)
    (error,) = closed(network, 96).errors
    assert error.diagnostic.rule == "map-shape"
    assert error.diagnostic.where[0] == "features.4.conv.1.0"


def test_a_network_planned_for_small_images_is_a_note(bench: Bench) -> None:
    planned = bench.apply(bench.chain("mobilenet_v2", image_size=32, imagenet_strides=False))
    assert (planned.errors(), planned.notes()) == ([], ["input-strides"])


def test_a_last_map_of_one_place_is_an_error(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", image_size=32, num_classes=10, pooling=Pooling("global", 1, "pool"))
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert verdict.errors() == ["last-map-1x1"]
    assert verdict.the("last-map-1x1").diagnostic.where == ("pool",)


def test_a_last_map_of_two_places_a_side_is_a_note(bench: Bench) -> None:
    found = bench.chain("mobilenet_v2", image_size=64, num_classes=1000, pooling=Pooling("global", 2, "pool"))
    verdict = bench.apply(found, "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), verdict.notes()) == ([], ["last-map-small"])
