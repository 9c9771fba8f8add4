from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from mobilenets.exporters.first_difference import first_difference
from mobilenets.exporters.onnx import MODEL, to_onnx
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import translator
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

SMALL = Preprocessing(image_size=16)


def breaking(operator: str, replacement: str, skip: int = 0) -> Callable[..., Exported]:
    """A translator that gets one kind of operator wrong, from the one after `skip` of them on."""

    def translate(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
        (content,) = to_onnx(model, preprocessing, precision=precision).payload.values()
        file = onnx.load_from_string(content)
        for node in [node for node in file.graph.node if node.op_type == operator][skip:]:
            node.op_type = replacement
            del node.attribute[:]
        return Exported({MODEL: file.SerializeToString()}, dynamic_batch=True)

    return translate


def breaking_weight(layer: str, to: str) -> Callable[..., Exported]:
    """A format's own translator that gets one weight of one layer wrong wherever that layer is in."""

    def translate(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
        broken = copy.deepcopy(model)
        layers = dict(broken.named_modules())
        if layer in layers:
            layers[layer].weight.data.view(-1)[0] += 0.5  # type: ignore[operator,union-attr]
        return translator(to)(broken, preprocessing, precision=precision)

    return translate


def located(model: nn.Module, translate: Callable[..., Exported], images: Any, kind: str = "onnx") -> str | None:
    found = first_difference(model, SMALL, images, kind=kind, translate=translate, precision="fp32", tolerance=1e-4)
    return None if found is None else found.layer


@pytest.fixture(scope="module")
def squeezing() -> nn.Module:
    """Two blocks, each with an h-swish; a sum that no layer makes between them."""
    torch.manual_seed(0)

    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardswish())
            self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardswish())
            self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = self.first(images)
            return self.classifier(torch.flatten(self.pool(self.second(x) + x), 1))

    return Summing().eval()


@pytest.mark.parametrize("layer", ["first.0 (Conv2d)", "second.0 (Conv2d)", "classifier (Linear)"])
def test_a_wrong_weight_is_found_in_another_format(squeezing: nn.Module, scans: Callable[..., Any], layer: str) -> None:
    # LiteRT, which translates in milliseconds; OpenVINO and ExecuTorch go the same way at seconds a cut.
    translate = breaking_weight(layer.split()[0], "litert")
    assert located(squeezing, translate, scans(SMALL, 2), "litert") == layer


def test_a_sum_between_layers_is_named_after_the_layer_before_it(
    squeezing: nn.Module, scans: Callable[..., Any]
) -> None:
    # The first addition of the graph normalises the pictures.
    assert located(squeezing, breaking("Add", "Sub", skip=1), scans(SMALL, 6)) == "add after second.2"


def test_a_faithful_translator_has_no_first_difference(tiny: nn.Module, scans: Callable[..., Any]) -> None:
    assert located(tiny, translator("litert"), scans(SMALL, 4), "litert") is None


def test_a_network_whose_way_depends_on_its_input_has_no_layers_to_name(scans: Callable[..., Any]) -> None:
    class Branching(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    assert located(Branching(), to_onnx, scans(SMALL, 4)) is None
