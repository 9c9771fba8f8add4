from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mobilenets.errors import ModelError, RunError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import DESCRIPTION, WEIGHTS, SavedNetwork, load_network, save_network
from mobilenets.preprocessing import Preprocessing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=3, width_mult=0.25, image_size=32, activation="relu6")
    preprocessing = Preprocessing(image_size=32, mean=(0.1, 0.2, 0.3))
    save_network(tmp_path, SavedNetwork(model, ("a", "b", "c"), preprocessing, {"data": "test"}))
    return tmp_path


def test_a_network_comes_back_whole_and_in_evaluation_mode(folder: Path) -> None:
    saved = load_network(folder)
    assert saved.classes == ("a", "b", "c")
    assert saved.preprocessing == Preprocessing(image_size=32, mean=(0.1, 0.2, 0.3))
    assert saved.provenance == {"data": "test"}
    assert saved.model.config.options == {"activation": "relu6", "padding": "symmetric", "norm_eps": 1e-5}
    assert not saved.model.training
    torch.manual_seed(0)
    again = create_model("mobilenet_v1", num_classes=3, width_mult=0.25, image_size=32, activation="relu6")
    for (name, mine), (other, theirs) in zip(saved.model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(mine, theirs)


def test_a_new_classifier_is_saved_with_the_network(folder: Path, tmp_path: Path) -> None:
    saved = load_network(folder)
    saved.model.reset_classifier(2)
    save_network(tmp_path, SavedNetwork(saved.model, ("x", "y"), saved.preprocessing, {}))
    again = load_network(tmp_path)
    assert again.model.num_classes == 2
    assert torch.equal(again.model.classifier.weight, saved.model.classifier.weight)


def test_a_network_without_a_classifier_is_no_run(folder: Path, tmp_path: Path) -> None:
    saved = load_network(folder)
    saved.model.reset_classifier(0)
    with pytest.raises(ModelError, match=r"this network has none: call reset_classifier\(n\) first"):
        save_network(tmp_path, SavedNetwork(saved.model, (), saved.preprocessing, {}))


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run folder \(no model.json\); 'mobilenets train' makes one"):
        load_network(tmp_path)


def test_missing_and_damaged_weights_are_named(folder: Path) -> None:
    weights = folder / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors is cut short"):
        load_network(folder)
    weights.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, r"is of format 99, .* knows up to 1: update mobilenets"),
        ({"network": {"name": "mobilenet_v9"}}, "mobilenet_v9"),
        ({"classes": None}, "does not describe a network"),
        ({"preprocessing": {}}, "does not describe a network"),
        ({"classes": [], "network": {"name": "mobilenet_v1", "num_classes": 0}}, "names 0 classes for a network of 0"),
        ({"classes": ["a", "b"]}, "names 2 classes for a network of 3 outputs"),
        (
            {"network": {"name": "mobilenet_v1", "num_classes": 3, "width_mult": 0.25, "in_channels": 1}},
            "images of 3 channels for a network that takes 1",
        ),
        ({"network": {"name": "mobilenet_v1", "num_classes": 3, "width_mult": 0.5}}, "[1-9][0-9]* of another shape"),
        ({"network": {"name": "mobilenet_v2", "num_classes": 3, "width_mult": 0.25}}, "mobilenet_v2"),
    ],
)
def test_a_description_that_does_not_fit_is_one_line(folder: Path, change: dict[str, object], said: str) -> None:
    path = folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError, match=said) as caught:
        load_network(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["network", "classes", "preprocessing", "provenance"])
def test_a_description_that_lacks_a_part_names_it(folder: Path, part: str) -> None:
    path = folder / DESCRIPTION
    description = json.loads(path.read_text())
    del description[part]
    path.write_text(json.dumps(description))
    with pytest.raises(RunError, match=f"it lacks '{part}'"):
        load_network(folder)
