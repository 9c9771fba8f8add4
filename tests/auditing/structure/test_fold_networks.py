"""The graph of a network folds into the chain its modules say it is: ours, torchvision's and timm's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torchvision
from torch import nn

from mobilenets.auditing.graph.torch_export import export_graph
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.layers import Chain, Layer, Padding
from mobilenets.auditing.structure.published import reference, without_paths
from mobilenets.models.config import OptionValue
from mobilenets.models.registry import create_model, list_models


def folded(network: nn.Module, image_size: int = 224, in_channels: int = 3) -> Chain:
    return without_paths(fold(export_graph(network.eval(), (1, in_channels, image_size, image_size))))


@pytest.mark.parametrize("name", list_models())
def test_our_network_folds_into_its_reference(name: str) -> None:
    assert folded(create_model(name)) == reference(name).chain


@pytest.mark.parametrize(
    ("name", "width_mult", "image_size", "options"),
    [
        ("mobilenet_v1", 0.25, 128, {"activation": "relu6", "padding": "same", "norm_eps": 1e-3}),
        ("mobilenet_v1", 0.5, 33, {"padding": "same"}),
        ("mobilenet_v2", 0.35, 32, {"padding": "same"}),
        ("mobilenet_v2", 1.4, 97, {}),
        ("mobilenet_v3_large", 0.75, 64, {"padding": "same"}),
        ("mobilenet_v3_small", 1.25, 8, {}),
        ("mobilenet_v4_conv_small", 0.5, 32, {"padding": "same"}),
        ("mobilenet_v4_hybrid_medium", 1.1, 48, {"padding": "same"}),
    ],
)
def test_our_network_folds_at_any_width_and_size(
    name: str, width_mult: float, image_size: int, options: dict[str, OptionValue]
) -> None:
    common = {"width_mult": width_mult, "image_size": image_size, "num_classes": 7, "in_channels": 1}
    network = create_model(name, **common, **options)  # type: ignore[arg-type]
    assert folded(network, image_size, in_channels=1) == reference(name, **common, **options).chain  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_torchvisions_network_is_the_published_one(name: str) -> None:
    assert folded(torchvision.models.get_model(name)) == reference(name).chain


TIMM = [
    ("mobilenetv1_100h", "timm mobilenetv1_100h", 1.0),
    ("mobilenetv1_125", "mobilenet_v1", 1.25),
    ("mobilenetv2_110d", "timm mobilenetv2_110d", 1.1),
    ("mobilenetv2_120d", "timm mobilenetv2_120d", 1.2),
    ("mobilenetv3_large_150d", "timm mobilenetv3_large_150d", 1.5),
    ("mobilenetv3_rw", "timm mobilenetv3_rw", 1.0),
    ("mobilenetv3_small_050", "timm mobilenetv3_small_050", 0.5),
    ("tf_mobilenetv3_large_075", "mobilenet_v3_large", 0.75),
    ("tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small_minimalistic", 1.0),
    ("mobilenetv4_conv_aa_medium", "timm mobilenetv4_conv_aa_medium", 1.0),
    ("mobilenetv4_conv_blur_medium", "timm mobilenetv4_conv_aa_medium", 1.0),
    ("mobilenetv4_conv_small_035", "mobilenet_v4_conv_small", 0.35),
    ("mobilenetv4_hybrid_medium_075", "mobilenet_v4_hybrid_medium", 0.75),
]


@pytest.mark.parametrize(("theirs", "name", "width_mult"), TIMM)
def test_timms_network_is_its_reference_but_for_its_own_choices(theirs: str, name: str, width_mult: float) -> None:
    found = folded(timm.create_model(theirs))
    published = reference(name, width_mult=width_mult).chain
    # timm trains with PyTorch's (or TensorFlow's) eps and momentum, without dropout; its V1 has ReLU6.
    assert _without_choices(found) == _without_choices(published)
    assert found.dropout == 0
    assert {norm.eps for layer in found.layers for norm in layer.norms} <= {1e-5, 1e-3}
    padded = {layer.padding for layer in found.layers if layer.stride > 1}
    assert padded == {Padding.SAME if theirs.startswith("tf_") else Padding.SYMMETRIC}


def _without_choices(chain: Chain) -> Chain:
    return replace(chain, dropout=None, layers=tuple(_without_choice(layer) for layer in chain.layers))


def _without_choice(layer: Layer) -> Layer:
    norms = tuple(replace(norm, eps=0.0, momentum=None) for norm in layer.norms)
    activation = "relu" if layer.activation == "relu6" else layer.activation
    return replace(layer, norms=norms, padding=Padding.SYMMETRIC, activation=activation)
