from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

from mobilenets.auditing.count import count
from mobilenets.models.registry import create_model

Parity = Callable[[nn.Module, nn.Module], None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width_mult", "parameters"),
    [(1.4, 6_108_776), (1.3, 5_386_792), (1.0, 3_504_872), (0.75, 2_636_424), (0.5, 1_968_680), (0.35, 1_677_128)],
)
def test_published_parameters(width_mult: float, parameters: int) -> None:
    with torch.device("meta"):
        assert count(create_model("mobilenet_v2", width_mult=width_mult)).parameters == parameters


@pytest.mark.parametrize(
    ("width_mult", "macs", "digits"), [(1.4, 582.2, 1), (1.0, 300.77, 2), (0.75, 209.07, 2), (0.35, 59.29, 2)]
)
def test_published_multiply_adds(width_mult: float, macs: float, digits: int) -> None:
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v2", width_mult=width_mult))
    assert round(counted.macs / 1e6, digits) == macs


def test_the_form_for_cifar() -> None:
    model = create_model("mobilenet_v2", num_classes=10, image_size=32)
    counted = count(model)
    assert counted.parameters == 2_236_682
    assert round(counted.macs / 1e6, 2) == 87.98
    with torch.inference_mode():
        assert model.eval().forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 1280, 4, 4)


@pytest.mark.parametrize(("width_mult", "head"), [(0.35, 1280), (1.0, 1280), (1.3, 1664), (1.4, 1792)])
def test_the_head_does_not_shrink(width_mult: float, head: int) -> None:
    with torch.device("meta"):
        assert create_model("mobilenet_v2", width_mult=width_mult).classifier.in_features == head


def test_torchvision_gives_the_same_outputs(assert_parity: Parity) -> None:
    assert_parity(create_model("mobilenet_v2"), torchvision.models.mobilenet_v2())


@pytest.mark.parametrize(
    ("name", "width_mult"),
    [("mobilenetv2_035", 0.35), ("mobilenetv2_050", 0.5), ("mobilenetv2_075", 0.75), ("mobilenetv2_140", 1.4)],
)
def test_timm_gives_the_same_outputs(name: str, width_mult: float, assert_parity: Parity) -> None:
    assert_parity(create_model("mobilenet_v2", width_mult=width_mult), timm.create_model(name))
