"""`mobilenets quantize` as a process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

pytest.importorskip("nncf")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that guesses."""
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=2, width_mult=0.25, image_size=16).eval()
    folder = tmp_path_factory.mktemp("run")
    save_network(folder, SavedNetwork(model, ("cold", "warm"), Preprocessing(image_size=16), {}))
    return folder


def test_json_tells_all_and_a_guessing_network_is_pointed_out(run: Run, untrained: Path, photos: Path) -> None:
    done = run("quantize", str(untrained), "--data", str(photos), "--out", "out.onnx", "--max-drop", "100", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["chosen"] == "plain"
    assert report["refused"] is False
    assert Path(report["out"]).name == "out.onnx"
    assert any("train it first" in note for note in report["remarks"])  # codespell:ignore remarks
    assert "INFO" not in done.stderr  # NNCF keeps quiet
    assert "plain: top-1" in done.stderr


def test_bad_input_is_one_line(call: Run, untrained: Path, photos: Path) -> None:
    done = call("quantize", str(untrained), "--data", str(photos), "--out", "out.onnx", "--max-drop", "-1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "max_drop is points of top-1, 0 or more, not -1" in done.stderr
