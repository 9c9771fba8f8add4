from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobilenets.errors import ModelError, WeightsError
from mobilenets.models.registry import create_from_weights, create_model
from mobilenets.models.weights import load
from mobilenets.models.weights.fit import file_sha256
from mobilenets.models.weights.read import read_weights

from .conftest import Reference

NARROW = {"width_mult": 0.35, "num_classes": 10}


@pytest.fixture
def file(timm_network: Reference, tmp_path: Path) -> Path:
    path = tmp_path / "mobilenetv2_035.safetensors"
    save_file(timm_network("mobilenetv2_035").state_dict(), path)
    return path


def test_the_report_says_where_they_came_from(file: Path) -> None:
    model, report = create_from_weights("mobilenet_v2", file, NARROW)
    assert model.training
    assert model.config.options["norm_eps"] == 1e-5
    assert (report.path, report.origin, report.sha256) == (file, "timm", file_sha256(file))
    assert len(report.sha256) == 64
    assert report.notes == ("neither the file nor its name says how images were prepared for these weights",)


@pytest.mark.slow
def test_a_classifier_for_other_classes_is_left_fresh_and_said(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(3)
    fresh = create_model("mobilenet_v2", width_mult=0.35, num_classes=7)
    torch.manual_seed(3)
    with caplog.at_level(logging.WARNING):
        model = create_model("mobilenet_v2", width_mult=0.35, num_classes=7, weights=file)
    assert "the classifier is left fresh: the file has 10 classes, 7 are asked for" in caplog.text
    assert torch.equal(model.classifier.weight, fresh.classifier.weight)
    assert not torch.equal(model.blocks[0].project.conv.weight, fresh.blocks[0].project.conv.weight)


def test_the_background_is_left_out_and_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"class {number}" for number in range(10))
    imported = replace(read_weights(file), has_background=True, classes=names)
    monkeypatch.setattr(load, "read_weights", lambda path: imported)
    whole, report = create_from_weights("mobilenet_v2", file, NARROW)
    assert report.classes == names
    model, report = create_from_weights("mobilenet_v2", file, {**NARROW, "num_classes": 9})
    assert torch.equal(model.classifier.weight, whole.classifier.weight[1:])
    assert torch.equal(model.classifier.bias, whole.classifier.bias[1:])
    assert report.classes == names[1:]
    assert "output 0 of the file, the background, is left out: 9 classes remain" in report.notes
    _, report = create_from_weights("mobilenet_v2", file, {**NARROW, "num_classes": 8})
    assert report.classes is None


def test_a_grey_image_gives_the_answers_of_its_rgb_form(torchvision_network: Reference, tmp_path: Path) -> None:
    torch.save(torchvision_network("mobilenet_v2").state_dict(), tmp_path / "w.pth")
    rgb, _ = create_from_weights("mobilenet_v2", tmp_path / "w.pth", {"num_classes": 10})
    grey, report = create_from_weights("mobilenet_v2", tmp_path / "w.pth", {"num_classes": 10, "in_channels": 1})
    assert "the stem's weights are summed over the file's 3 channels, for grey images" in report.notes
    assert report.preprocessing is not None
    assert report.preprocessing.channels == 1
    assert report.preprocessing.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        expected, answer = rgb.eval()(images.expand(-1, 3, -1, -1)), grey.eval()(images)
    assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(WeightsError, match="images of 3 channels, and can't be fitted to 4"):
        create_from_weights("mobilenet_v2", tmp_path / "w.pth", {"num_classes": 10, "in_channels": 4})


def test_an_option_of_the_callers_wins_and_is_said(file: Path) -> None:
    model, report = create_from_weights("mobilenet_v2", file, {**NARROW, "padding": "same", "norm_eps": 1e-5})
    assert model.config.options["padding"] == "same"
    assert [note for note in report.notes if "as asked" in note] == [
        "padding='same' as asked, where these weights were made for 'symmetric': their outputs will differ"
    ]


def test_arguments_are_checked_as_without_weights(file: Path) -> None:
    with pytest.raises(ModelError, match="no network 'mobilnet_v2'"):
        create_model("mobilnet_v2", weights=file)
    with pytest.raises(ModelError, match="has no argument 'activaton'"):
        create_model("mobilenet_v1", activaton="relu", weights=file)
    with pytest.raises(ModelError, match="image_size is 3"):
        create_model("mobilenet_v2", image_size=3, weights=file)


def message(name: str, width: float, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        create_model(name, width_mult=width, weights=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_another_width_names_the_misshapen_tensors_and_the_width(file: Path) -> None:
    said = message("mobilenet_v2", 1.0, file)
    assert f"{file} does not fit mobilenet_v2 at width 1: " in said
    assert "conv_stem.weight [16, 3, 3, 3] where the network has [32, 3, 3, 3]" in said
    assert said.endswith("; the file looks like mobilenet_v2 at width 0.35")


def test_another_network_names_missing_and_extra_tensors_as_the_file_calls_them(file: Path) -> None:
    said = message("mobilenet_v3_small", 0.35, file)
    assert "tensors missing (" in said
    assert "conv_head.bias" not in said.partition("missing")[0]
    assert "too many (" in said
    assert "blocks." in said
    assert "penultimate" not in said
    assert said.endswith("; the file looks like mobilenet_v2 at width 0.35")


@pytest.mark.slow
def test_a_file_of_no_network_here_has_no_hint(timm_network: Reference, tmp_path: Path) -> None:
    tensors = timm_network("mobilenetv2_035").state_dict()
    del tensors["blocks.2.1.bn2.bias"]
    save_file(tensors, tmp_path / "mobilenetv2_035.safetensors")
    said = message("mobilenet_v2", 0.35, tmp_path / "mobilenetv2_035.safetensors")
    assert said.endswith("at width 0.35: 1 of 314 tensors missing (blocks.2.1.bn2.bias)")


def test_weights_are_taken_over_for_small_images_too(file: Path) -> None:
    model = create_model("mobilenet_v2", **NARROW, image_size=32, weights=file)
    model.eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
