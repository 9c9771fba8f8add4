from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mobilenets.auditing.count import NetworkCount, count
from mobilenets.catalogue.readings import LastLayer, cost_parts
from mobilenets.errors import AuditError
from mobilenets.models.mobilenet_v4_blocks import MobileAttention
from mobilenets.models.registry import create_model

SINGLE = (nn.BatchNorm2d, nn.Linear, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid)


@pytest.mark.parametrize(
    ("name", "width_mult", "num_classes", "image_size"),
    [
        ("mobilenet_v1", 0.75, 1000, 192),
        ("mobilenet_v2", 1.0, 1000, 201),  # not a multiple of the strides
        ("mobilenet_v2", 0.35, 10, 32),  # strides for small images
        ("mobilenet_v3_large", 0.75, 7, 96),
        ("mobilenet_v3_small", 1.0, 1000, 224),
        ("mobilenet_v4_conv_small", 0.5, 1000, 64),
        ("mobilenet_v4_hybrid_medium", 1.0, 1000, 256),
    ],
)
def test_costs_are_those_of_a_count(name: str, width_mult: float, num_classes: int, image_size: int) -> None:
    parts = cost_parts(name, width_mult, num_classes, image_size)
    with torch.device("meta"):
        model = create_model(name, width_mult=width_mult, num_classes=num_classes, image_size=image_size)
    counted = count(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert (parts.parameters, parts.macs) == (counted.parameters, counted.macs)
    assert (parts.num_classes, parts.width_mult) == (num_classes, width_mult)
    assert parts.features == model.classifier.in_features
    assert parts.norm_channels == sum(norm.num_features for norm in norms)
    assert parts.stem_macs == next(layer.macs for layer in counted.layers if layer.path.startswith("stem"))
    assert parts.element_operations == element_operations(model, counted)


def element_operations(model: nn.Module, counted: NetworkCount) -> int:
    """Outputs of the norms, linear layers, activations and sums of a network, as they were traced."""
    outputs = {layer.path: math.prod(layer.output_shape) for layer in counted.layers}
    modules = dict(model.named_modules())
    single = sum(size for path, size in outputs.items() if isinstance(modules[path], SINGLE))
    summed = [path for path, module in modules.items() if getattr(module, "has_shortcut", False)]
    summed_norms = [max(p for p in outputs if p.startswith(f"{path}.project")) for path in summed]
    attention = [path for path, module in modules.items() if isinstance(module, MobileAttention)]
    return single + sum(outputs[path] for path in (*summed_norms, *(f"{path}.layer_scale" for path in attention)))


def test_v2s_parts_by_hand() -> None:
    parts = cost_parts("mobilenet_v2", 1.0, 1000, 224)
    assert parts.norm_channels == 17_056
    assert parts.features == 1280
    assert parts.stem_macs == 112 * 112 * 32 * 3 * 9
    assert parts.last == LastLayer(1280, 320 + 2, 320 * 7 * 7)
    assert parts.bare_expansion == (32, 112 * 112)


def test_only_an_inverted_residual_can_lack_its_expansion() -> None:
    assert cost_parts("mobilenet_v3_large", 0.75, 1000, 224).bare_expansion == (16, 112 * 112)
    for name in ("mobilenet_v1", "mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"):
        assert cost_parts(name, 1.0, 1000, 224).bare_expansion is None


def test_v3s_last_layer_is_the_penultimate_linear_one_and_v1_has_none() -> None:
    parts = cost_parts("mobilenet_v3_small", 1.0, 1000, 224)
    assert parts.last == LastLayer(1024, 576 + 1, 576)
    assert cost_parts("mobilenet_v1", 1.0, 1000, 224).last is None


def test_v4s_last_layer_is_the_convolution_behind_the_pool() -> None:
    assert cost_parts("mobilenet_v4_conv_medium", 1.0, 1000, 256).last == LastLayer(1280, 960 + 2, 960)


def test_an_unknown_network_is_an_error_that_suggests() -> None:
    with pytest.raises(AuditError, match="did you mean mobilenet_v2"):
        cost_parts("mobilenet_v22", 1.0, 1000, 224)
