from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mobilenets.errors import ModelError, RunError, WeightsError
from mobilenets.exporters.export import export_onnx
from mobilenets.exporters.subject import load_subject
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing

GOOGLE = Path(__file__).parents[3] / "shared" / "data" / "google" / "mobilenet_v1_0.25_128_quant.tflite"


def test_a_run_folder(run: Path) -> None:
    subject, notes = load_subject(run)
    assert (subject.classes, subject.preprocessing.image_size, notes) == (tuple("0123456789"), 16, ())
    assert not subject.model.training


@pytest.mark.skipif(not GOOGLE.exists(), reason=f"no {GOOGLE.name} beside the repository")
def test_googles_file_without_its_background() -> None:
    subject, notes = load_subject(GOOGLE, model="mobilenet_v1", width_mult=0.25)
    assert len(subject.classes) == 1000
    assert subject.preprocessing.image_size == 128
    assert "the background, is left out" in " ".join(notes)
    assert set(subject.provenance) == {"weights_file", "weights_sha256", "weights_origin"}
    smaller, _ = load_subject(GOOGLE, model="mobilenet_v1", width_mult=0.25, image_size=64)
    assert smaller.preprocessing.image_size == 64
    ratio = subject.preprocessing.resize_size / subject.preprocessing.image_size  # type: ignore[operator]
    assert smaller.preprocessing.resize_size == round(64 * ratio)


@pytest.mark.slow
@pytest.mark.skipif(not GOOGLE.exists(), reason=f"no {GOOGLE.name} beside the repository")
def test_a_weight_file_needs_its_networks_name() -> None:
    with pytest.raises(RunError, match="`model=mobilenet_v2`"):
        load_subject(GOOGLE)
    with pytest.raises(WeightsError, match="does not fit mobilenet_v2"):
        load_subject(GOOGLE, model="mobilenet_v2")
    with pytest.raises(ModelError, match="no network"):
        load_subject(GOOGLE, model="mobilenet_v9")


def test_a_weight_file_that_names_no_classes(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    subject, notes = load_subject(tmp_path / "theirs.pth", model="mobilenet_v2")
    assert subject.classes == ("class 0", "class 1", "class 2")
    assert any("does not name its classes" in note for note in notes)


@pytest.mark.slow
def test_an_exported_file_is_no_run(tmp_path: Path, tiny: nn.Module) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(tiny, path, preprocessing=Preprocessing(image_size=16), classes=tuple("0123456789"))
    with pytest.raises(RunError, match=r"exported file already \(onnx\); give the run folder"):
        load_subject(path)


def test_nothing_there() -> None:
    with pytest.raises(RunError, match="no run folder"):
        load_subject("nothing")
    with pytest.raises(RunError, match="`model=mobilenet_v2`"):
        load_subject("imagenet")


def test_a_network_in_memory_is_taken_as_it_is() -> None:
    from mobilenets.models.saved import SavedNetwork

    model = create_model("mobilenet_v2", num_classes=2, width_mult=0.1, image_size=16)
    saved = SavedNetwork(model, ("a", "b"), Preprocessing(image_size=16), {"seed": "1"})
    subject, _ = load_subject(saved)
    assert subject.model is model
    assert np.array_equal(subject.classes, ("a", "b"))
    assert subject.provenance == {"seed": "1"}
    with pytest.raises(RunError, match="are for a weight file"):
        load_subject(saved, image_size=32)


@pytest.mark.parametrize("asked", [{"width_mult": 0.5}, {"image_size": 128}])
def test_a_run_folder_says_its_own_width_and_size(run: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(
        RunError, match="`width_mult` and `image_size` are for a weight file; a run folder says its own"
    ):
        load_subject(run, **asked)
