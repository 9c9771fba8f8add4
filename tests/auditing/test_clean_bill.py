"""A correct network gets a clean bill: every published implementation at hand, audited without one false error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision.models
from torch import nn

from mobilenets.auditing.audit import audit
from mobilenets.auditing.rules.finding import Audit
from mobilenets.exporting.onnx import export_onnx
from mobilenets.models.registry import create_model, list_models
from mobilenets.preprocessing import Preprocessing

GOOGLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "google"
TORCHVISION = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
FAMILIES = re.compile(r"(tf_)?mobilenet(v1|v2|v3|v4_conv|v4_hybrid)_")
TIMM = [name for name in timm.list_models() if FAMILIES.match(name)]
FORMS = ((1.0, 224), (0.5, 96), (1.4, 64), (0.35, 32))
"""Width multipliers and image sizes; the last two are small enough for other strides."""


def errors(found: Audit) -> list[str]:
    """The errors in words, after a look that everything is explained."""
    assert (found.unexplained_parameters, found.unexplained_macs) == (0, 0)
    return [
        f"{one.claim.rule} at {one.claim.where[:3]}: {one.claim.found}, not {one.claim.expected}"
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


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    assert errors(audit(timm.create_model(name))) == []


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(("width_mult", "image_size"), FORMS)
def test_our_own(name: str, width_mult: float, image_size: int) -> None:
    network = create_model(name, width_mult=width_mult, image_size=image_size, num_classes=10)
    found = audit(network, image_size=image_size)
    assert errors(found) == []
    assert (found.comparison.reference.name, found.comparison.reference.width_mult) == (name, width_mult)


@pytest.mark.parametrize("name", list_models())
def test_our_own_with_tensorflows_padding_and_eps(name: str) -> None:
    network = create_model(name, image_size=96, padding="same", norm_eps=1e-3)
    assert errors(audit(network, image_size=96)) == []


@pytest.mark.parametrize("name", list_models())
def test_our_own_exported(name: str, tmp_path: Path) -> None:
    """As `mobilenets export` writes them: batch norm folded, bytes in, normalisation inside."""
    network = random_weights(create_model(name, image_size=96))
    classes = tuple(f"class {index}" for index in range(1000))
    export_onnx(network, tmp_path / "net.onnx", preprocessing=Preprocessing(image_size=96), classes=classes)
    found = audit(tmp_path / "net.onnx")
    assert errors(found) == []
    assert found.comparison.reference.name == name


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small"])
def test_our_own_by_pytorchs_exporter(name: str, tmp_path: Path) -> None:
    network = random_weights(create_model(name, image_size=96))
    torch.onnx.export(network, (torch.zeros(1, 3, 96, 96),), tmp_path / "net.onnx", verbose=False)
    found = audit(tmp_path / "net.onnx")
    assert errors(found) == []
    assert found.comparison.reference.name == name


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
