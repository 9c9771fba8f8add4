from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mobilenets.errors import WeightsError
from mobilenets.models.registry import create_model
from mobilenets.models.weights.read import read_weights
from mobilenets.preprocessing import Preprocessing

from .conftest import Reference, SameAnswers

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_a_file_gives_torchvisions_answers(
    name: str, legacy: bool, torchvision_network: Reference, assert_same_answers: SameAnswers, tmp_path: Path
) -> None:
    theirs = torchvision_network(name)
    torch.save(theirs.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert_same_answers(create_model(name, num_classes=10, weights=tmp_path / "w.pth"), theirs)


def test_a_published_file_is_known_by_its_name(torchvision_network: Reference, tmp_path: Path) -> None:
    tensors = torchvision_network("mobilenet_v2").state_dict()
    for file, resize, notes in (("mobilenet_v2-7ebf99e0.pth", 232, 0), ("mine.pth", 256, 1)):
        torch.save(tensors, tmp_path / file)
        imported = read_weights(tmp_path / file)
        assert imported.preprocessing == Preprocessing(224, resize, **IMAGENET)
        assert len(imported.notes) == notes


def test_a_network_torchvision_does_not_have_is_said(torchvision_network: Reference, tmp_path: Path) -> None:
    torch.save(torchvision_network("mobilenet_v3_small").state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"which has no mobilenet_v1 at width 1.*looks like mobilenet_v3_small at"):
        create_model("mobilenet_v1", weights=tmp_path / "w.pth")


def test_features_without_a_classifier_are_refused(torchvision_network: Reference, tmp_path: Path) -> None:
    tensors = {
        name: tensor
        for name, tensor in torchvision_network("mobilenet_v2").state_dict().items()
        if name.startswith("features")
    }
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"has no classifier\.1"):
        read_weights(tmp_path / "w.pth")
