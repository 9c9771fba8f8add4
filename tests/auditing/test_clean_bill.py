"""A correct network gets a clean bill: every published implementation at hand, audited without one false error.

The chain each was folded into on the way is held to the published one too: most of an audit's time goes into that.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision.models
from chains import without_norms
from torch import nn

from mobilenets.auditing.result import Audit
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Padding
from mobilenets.auditing.structure.published import reference, without_paths
from mobilenets.exporters.export import export_onnx
from mobilenets.models.registry import create_model, list_models
from mobilenets.preprocessing import Preprocessing
from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow

GOOGLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "google"
TORCHVISION = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
FAMILIES = re.compile(r"(tf_)?mobilenet(v1|v2|v3|v4_conv|v4_hybrid)_")
TIMM = [name for name in timm.list_models() if FAMILIES.match(name)]
TIMMS_OWN = {
    "mobilenetv1_100h": ("timm mobilenetv1_100h", 1.0),
    "mobilenetv1_125": ("mobilenet_v1", 1.25),
    "mobilenetv2_110d": ("timm mobilenetv2_110d", 1.1),
    "mobilenetv2_120d": ("timm mobilenetv2_120d", 1.2),
    "mobilenetv3_large_150d": ("timm mobilenetv3_large_150d", 1.5),
    "mobilenetv3_rw": ("timm mobilenetv3_rw", 1.0),
    "mobilenetv3_small_050": ("timm mobilenetv3_small_050", 0.5),
    "tf_mobilenetv3_large_075": ("mobilenet_v3_large", 0.75),
    "tf_mobilenetv3_small_minimal_100": ("mobilenet_v3_small_minimalistic", 1.0),
    "mobilenetv4_conv_aa_medium": ("timm mobilenetv4_conv_aa_medium", 1.0),
    "mobilenetv4_conv_blur_medium": ("timm mobilenetv4_conv_aa_medium", 1.0),
    "mobilenetv4_conv_small_035": ("mobilenet_v4_conv_small", 0.35),
    "mobilenetv4_hybrid_medium_075": ("mobilenet_v4_hybrid_medium", 0.75),
}
"""The published network and width some of timm's are."""
EXPORTED = ("mobilenet_v1", "mobilenet_v3_large", "mobilenet_v4_hybrid_medium")
EXPORTED_BY_PYTORCH = ("mobilenet_v2", "mobilenet_v3_small")
"""Every kind of block once: an export takes seconds, and tests/exporting holds the other networks' files to theirs."""
TENSORFLOWS = {"padding": "same", "norm_eps": 1e-3}
FORMS: tuple[tuple[float, int, dict[str, Any]], ...] = (
    (1.0, 224, {}),
    (0.5, 96, TENSORFLOWS),
    (1.4, 64, {}),
    (0.35, 32, {}),
)
"""Width multipliers, image sizes and TensorFlow's choices; the last two are small enough for other strides."""


def errors(found: Audit) -> list[str]:
    """The errors in words, after a look that everything is explained."""
    assert (found.unexplained_parameters, found.unexplained_macs) == (0, 0)
    return [
        f"{one.diagnostic.rule} at {one.diagnostic.where[:3]}: {one.diagnostic.found}, not {one.diagnostic.expected}"
        for one in found.errors
    ]


def random_weights(network: nn.Module) -> nn.Module:
    """Biases and statistics that are not zero: exporters leave zeros out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def test_the_list_of_timm_is_not_empty() -> None:
    assert len(TIMM) >= 35


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    found = audit(getattr(torchvision.models, name)())
    assert errors(found) == []
    assert found.comparison.reference.name == name
    assert found.comparison.certainty > 0.9
    assert without_paths(found.comparison.found) == reference(name).chain


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    found = audit(timm.create_model(name))
    assert errors(found) == []
    if name in TIMMS_OWN:
        published, width_mult = TIMMS_OWN[name]
        _is_but_for_timms_choices(name, found.comparison.found, reference(published, width_mult=width_mult).chain)


def test_the_published_forms_of_timms_networks_are_of_networks_it_has() -> None:
    assert set(TIMMS_OWN) <= set(TIMM)


def _is_but_for_timms_choices(name: str, found: Chain, published: Chain) -> None:
    """The same, though timm has PyTorch's or TensorFlow's eps and momentum, no dropout, and in V1 ReLU6."""
    assert _without_choices(without_paths(found)) == _without_choices(published)
    assert found.dropout == 0
    assert {norm.eps for layer in found.layers for norm in layer.norms} <= {1e-5, 1e-3}
    padded = {layer.padding for layer in found.layers if layer.stride > 1}
    assert padded == {Padding.SAME if name.startswith("tf_") else Padding.SYMMETRIC}


def _without_choices(chain: Chain) -> Chain:
    return replace(chain, dropout=None, layers=tuple(_without_choice(layer) for layer in chain.layers))


def _without_choice(layer: ChainLayer) -> ChainLayer:
    norms = tuple(replace(norm, eps=0.0, momentum=None) for norm in layer.norms)
    activation = "relu" if layer.activation == "relu6" else layer.activation
    return replace(layer, norms=norms, padding=Padding.SYMMETRIC, activation=activation)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(("width_mult", "image_size", "options"), FORMS)
def test_our_own(name: str, width_mult: float, image_size: int, options: dict[str, Any]) -> None:
    form = {"width_mult": width_mult, "image_size": image_size, "num_classes": 10, **options}
    found = audit(create_model(name, **form), image_size=image_size)
    assert errors(found) == []
    assert (found.comparison.reference.name, found.comparison.reference.width_mult) == (name, width_mult)
    assert without_paths(found.comparison.found) == reference(name, **form).chain


@pytest.mark.parametrize("name", EXPORTED)
def test_our_own_exported(name: str, tmp_path: Path) -> None:
    """As `mobilenets export` writes them: batch norm folded, bytes in, normalisation inside."""
    network = random_weights(create_model(name, image_size=96))
    classes = tuple(f"class {index}" for index in range(1000))
    export_onnx(network, tmp_path / "net.onnx", preprocessing=Preprocessing(image_size=96), classes=classes)
    found = audit(tmp_path / "net.onnx")
    assert errors(found) == []
    assert found.comparison.reference.name == name


@pytest.mark.parametrize("name", EXPORTED_BY_PYTORCH)
def test_our_own_by_pytorchs_exporter(name: str, tmp_path: Path) -> None:
    network = random_weights(create_model(name, image_size=96))
    torch.onnx.export(network, (torch.zeros(1, 3, 96, 96),), tmp_path / "net.onnx", verbose=False)
    found = audit(tmp_path / "net.onnx")
    assert errors(found) == []
    assert found.comparison.reference.name == name
    chain, published = found.comparison.found, reference(name, image_size=96).chain
    assert chain.folded_norms
    assert all(layer.bias and not layer.norms for layer in chain.layers)
    assert without_norms(without_paths(chain)) == without_norms(published)
    biases = sum(layer.out_channels for layer in published.layers if layer.norms)
    assert chain.parameters == published.parameters - biases


@pytest.mark.parametrize(
    ("file", "name", "width_mult"),
    [
        ("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2", 1.0),
        ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1", 0.25),
    ],
)
def test_googles_tensorflow_lite_files(file: str, name: str, width_mult: float) -> None:
    if not (GOOGLE / file).exists():
        pytest.skip(f"{file} is not at hand")
    found = audit(GOOGLE / file)
    assert errors(found) == []
    assert (found.comparison.reference.name, found.comparison.reference.width_mult) == (name, width_mult)
