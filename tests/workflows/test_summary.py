"""`summary` counts the same whatever the network comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mobilenets import create_model, export_onnx, summary
from mobilenets.cli.main import main
from mobilenets.errors import AuditError, ModelError
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

CLASSES = ("blue", "green", "red")
SHAPE = {"num_classes": 3, "width_mult": 0.25, "image_size": 32}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model("mobilenet_v3_small", **SHAPE).eval()


@pytest.fixture(scope="module")
def run(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_network(folder, SavedNetwork(network, CLASSES, Preprocessing(image_size=32), {}))
    return folder


@pytest.mark.slow
def test_a_name_a_module_and_its_run_folder_have_the_same_counts(network: nn.Module, run: Path) -> None:
    named = summary("mobilenet_v3_small", **SHAPE)
    assert summary(network).count == named.count
    assert summary(run).count == summary(str(run)).count == named.count
    assert summary(run).config == named.config
    assert summary(run, image_size=64).count.macs > 3 * named.count.macs
    assert repr(named).startswith("<NetworkSummary: mobilenet_v3_small, width 0.25, 3 classes: ")
    assert len(repr(named)) < 200
    assert sum(row["parameters"] for row in named._rows()) == json.loads(json.dumps(named.to_dict()))["parameters"]


@pytest.mark.slow
def test_a_file_has_the_same_multiply_adds_and_pairs(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(network, path, preprocessing=Preprocessing(image_size=32), classes=CLASSES)
    module, file = summary(network).count, summary(path).count
    assert (file.macs, file.standard_macs, file.input_shape) == (module.macs, module.standard_macs, (1, 3, 32, 32))
    pairs = [(pair.in_channels, pair.out_channels, pair.kernel, pair.macs) for pair in file.separable_pairs]
    assert pairs == [(pair.in_channels, pair.out_channels, pair.kernel, pair.macs) for pair in module.separable_pairs]
    # Batch norms are folded into the convolutions: two parameters a channel become a bias.
    assert 0 < module.parameters - file.parameters < module.parameters / 4
    for column in ("parameters", "macs", "activation_bytes"):
        assert sum(getattr(layer, column) for layer in file.layers) == getattr(file, column)
    assert 0 < file.peak_activation_bytes < file.activation_bytes


def test_someone_elses_module_and_the_code_that_makes_it() -> None:
    theirs = pytest.importorskip("torchvision.models").mobilenet_v2(num_classes=10)
    named = summary("torchvision.models:mobilenet_v2", args={"num_classes": 10})
    assert named.count == summary(theirs).count
    assert named.count.parameters == 2_236_682
    assert named.config is None
    assert named.to_dict()["model"] == {"name": "torchvision.models:mobilenet_v2"}


def test_code_is_not_run_where_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuditError, match="run"):
        summary("torchvision.models:mobilenet_v2", run=False)
    assert main(["summary", "torchvision.models:mobilenet_v2", "--no-run"]) == 2
    assert main(["summary", "mobilenet_v1", "--no-run"]) == 0
    assert main(["summary", "torchvision.models:mobilenet_v2", "--args", '{"num_classes": 10}']) == 0
    captured = capsys.readouterr()
    assert "counting torchvision.models:mobilenet_v2 runs its code" in captured.err
    assert "2,236,682" in captured.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width_mult": 0.5}, "width_mult"),
        ({"num_classes": 3}, "num_classes"),
        ({"in_channels": 1}, "in_channels"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_arguments_of_a_registered_network_are_refused_for_what_is_built(
    network: nn.Module, arguments: dict[str, float], said: str
) -> None:
    with pytest.raises(ModelError, match=f"`{said}` is for a registered network"):
        summary(network, **arguments)


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean mobilenet_v2"):
        summary("mobilenet-v2")
    with pytest.raises(AuditError, match="is not there"):
        summary(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="`args` are for a class"):
        summary("mobilenet_v2", args={"width": 1})
