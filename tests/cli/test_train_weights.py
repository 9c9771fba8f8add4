from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from mobilenets.models.weights.fit import file_sha256

from .conftest import Run

TRAIN = [
    *("train", "mobilenet_v2", "--image-size", "16", "--data", "photos", "--recipe", "quick", "--batch-size", "8"),
    *("--precision", "float32", "--memory-format", "contiguous", "--learning-rate", "1e-6", "--epochs", "1"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A torchvision network of 10 classes, under the name of the published one."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(num_classes=10)
    torch.save(network.state_dict(), tmp_path / "mobilenet_v2-7ebf99e0.pth")
    return tmp_path / "mobilenet_v2-7ebf99e0.pth"


@pytest.mark.slow
def test_a_run_starts_from_given_weights_and_remembers_them(
    call: Run, photos: Path, tmp_path: Path, file: Path
) -> None:
    given = torch.load(file, weights_only=True)
    done = call(*TRAIN, "--weights", file.name, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    note = "note: the classifier is left fresh: the file has 10 classes, 2 are asked for"
    assert done.stderr.count(note) == done.stderr.count(f"starting from {file.name} (torchvision)") == 1
    assert json.loads(done.stdout)["test"]["count"] > 0

    trained = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.allclose(trained["blocks.3.expand.conv.weight"], given["features.4.conv.0.0.weight"], atol=1e-4)
    description = json.loads((tmp_path / "run" / "model.json").read_text())
    assert description["provenance"]["weights_file"] == file.name
    assert description["provenance"]["weights_sha256"] == file_sha256(file)
    assert description["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert (description["preprocessing"]["image_size"], description["preprocessing"]["resize_size"]) == (16, 16)

    file.unlink()
    finished = call(*TRAIN, "--weights", file.name, "--out", "run", "--resume")
    assert finished.returncode == 0, finished.stderr
    assert "nothing is trained again" in finished.stderr
    refused = call(*TRAIN, "--weights", "another.pth", "--out", "run", "--resume")
    assert refused.returncode == 2
    assert f"network weights: {file.name} there, another.pth now" in refused.stderr

    again = call(*TRAIN, "--weights", "run", "--out", "second")
    assert again.returncode == 0, again.stderr
    assert "starting from model.safetensors (run folder)" in again.stderr
    assert "left fresh" not in again.stderr
    assert json.loads((tmp_path / "second" / "model.json").read_text())["preprocessing"] == description["preprocessing"]


def test_weights_of_another_network_or_unpublished_ones_are_one_line(
    call: Run, photos: Path, tmp_path: Path, file: Path
) -> None:
    wrong = call(*TRAIN, "--width-mult", "0.5", "--weights", file.name, "--out", "run")
    unpublished = call(*TRAIN, "--width-mult", "0.3", "--weights", "imagenet", "--out", "run")
    for done, said in (
        (wrong, "the file looks like mobilenet_v2 at width 1"),
        (unpublished, "no ImageNet weights are published for mobilenet_v2 at width 0.3"),
    ):
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_network_imagenet_says_what_to_put_where(call: Run, photos: Path, tmp_path: Path) -> None:
    arguments = (*TRAIN, "--weights", "imagenet", "--out", "run")
    done = call(*arguments, MOBILENETS_WEIGHTS_MIRROR="http://127.0.0.1:1", TORCH_HOME=str(tmp_path / "torch"))
    assert done.returncode == 2
    place = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v2-7ebf99e0.pth"
    wanted = f"download https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth and put it at {place}"
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
