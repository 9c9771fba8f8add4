"""Networks that are no MobileNet, or more than one, are one finding that says so; features alone are a note."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("efficientnet_lite0", "mobilenet_v2, width 1.2"),
        ("fbnetc_100", "timm mobilenetv2_110d, width 1.1"),
        ("lcnet_050", "mobilenet_v1, width 0.25"),
        ("mnasnet_small", "mobilenet_v3_large, width 0.5"),
        ("resnet10t", "mobilenet"),
    ],
)
def test_descendants_and_others_are_told_from_faulty_mobilenets(name: str, nearest: str) -> None:
    (finding,) = audit(timm.create_model(name)).errors
    assert finding.diagnostic.rule == "not-a-mobilenet"
    assert finding.diagnostic.found.startswith(f"not a MobileNet V1 to V4: the nearest is {nearest}")


def test_a_segmenter_is_said_to_be_built_on_its_backbone() -> None:
    (finding,) = audit(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)).errors
    assert "its first 45 layers are those of mobilenet_v3_large, width 1, which has 45" in finding.diagnostic.found
    assert finding.diagnostic.fix == "audit the backbone alone, with --expect mobilenet_v3_large"


class Boxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = mobilenet_v2().features
        self.head = nn.Conv2d(1280, 4, 1)

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [{"boxes": row.flatten(1).T} for row in self.head(self.backbone(images))]


def test_of_a_detector_the_part_that_reads_images_is_audited() -> None:
    result = audit(Boxes())
    assert not result.errors
    assert "a detector, of which the part backbone was audited" in result.notes[0]


def _v2_features() -> nn.Module:
    network = mobilenet_v2()
    network.classifier = nn.Identity()  # type: ignore[assignment]
    return network


def _v2_blocks() -> nn.Module:
    network = _v2_features()
    network.features = network.features[:-1]  # type: ignore[index, assignment, operator]
    return network


def _v3_penultimate() -> nn.Module:
    network = mobilenet_v3_small()
    network.classifier[3] = nn.Identity()
    return network


@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
@pytest.mark.parametrize("build", [_v2_features, _v2_blocks, _v3_penultimate])
def test_features_alone_stay_that_in_a_file(tmp_path: Path, build: object) -> None:
    network = build().eval()  # type: ignore[operator]
    torch.onnx.export(network, (torch.randn(1, 3, 64, 64),), str(tmp_path / "net.onnx"), dynamo=False)
    for target in (network, tmp_path / "net.onnx"):
        result = audit(target, image_size=64)
        assert result.comparison.found.num_classes is None
        rules = [finding.diagnostic.rule for finding in result.findings]
        assert "no-classifier" in rules
        assert not {"layer-missing", "activation-missing", "final-activation", "classes"} & set(rules)
