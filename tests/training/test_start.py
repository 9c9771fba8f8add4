"""Runs that start from weights: what is taken over, what is said, and how such a run goes on when it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mobilenets.errors import RunError, TrainingInterruptedError
from mobilenets.models.registry import create_model, default_options
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent, StepReport
from mobilenets.training.checkpoints import STATE, load_state, save_state
from mobilenets.training.recipe import Recipe
from mobilenets.workflows.train import train

pytestmark = pytest.mark.slow

RECIPE = Recipe(
    epochs=2,
    batch_size=4,
    learning_rate=1e-5,
    flip=False,
    crop_padding=0,
    precision="float32",
    memory_format="contiguous",
)
NETWORK = {"width_mult": 0.25, "image_size": 16}


class Listener(Silent):
    """Keeps what it is told; presses Ctrl-C (a real SIGINT) after a number of steps."""

    def __init__(self, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self.left = stop_after

    def message(self, text: str) -> None:
        self.said.append(text)

    def step(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 8 small pictures."""
    random = np.random.default_rng(0)
    for name, level in (("cold", 60), ("warm", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = (level + random.integers(-40, 40, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def saved_run(folder: Path, classes: tuple[str, ...]) -> Path:
    """A run folder of a network with options and preparation of its own."""
    torch.manual_seed(5)
    model = create_model("mobilenet_v2", num_classes=len(classes), padding="same", norm_eps=1e-3, **NETWORK)  # type: ignore[arg-type]
    save_network(folder, SavedNetwork(model, classes, Preprocessing(16, mean=(0.4,), std=(0.2,)), {}))
    return folder


def begin(photos: Path, run: Path, *, listener: Listener | None = None, **changes: object) -> None:
    arguments = {"recipe": RECIPE, "device": "cpu", **NETWORK, **changes}
    train("mobilenet_v2", photos, run, progress=listener or Listener(), **arguments)  # type: ignore[arg-type]


def test_the_classifier_of_the_same_classes_is_kept(photos: Path, tmp_path: Path) -> None:
    given, listener = saved_run(tmp_path / "given", ("cold", "warm")), Listener()
    begin(photos, tmp_path / "run", listener=listener, weights=given)
    assert not any("left fresh" in line for line in listener.said)
    before, after = load_file(given / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    assert torch.allclose(after["classifier.weight"], before["classifier.weight"], atol=1e-3)


def test_the_classifier_of_other_classes_is_left_fresh_and_said(photos: Path, tmp_path: Path) -> None:
    given, listener = saved_run(tmp_path / "given", ("cold", "hot")), Listener()
    begin(photos, tmp_path / "run", listener=listener, weights=given)
    said = [line for line in listener.said if "left fresh" in line]
    assert said == [
        "note: the classifier is left fresh: the file's classes are others (hot where the images have warm)"
    ]
    before, after = load_file(given / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    assert not torch.allclose(after["classifier.weight"], before["classifier.weight"], atol=1e-2)
    assert torch.allclose(after["stem.conv.weight"], before["stem.conv.weight"], atol=1e-3)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_run_stopped_halfway_goes_on_without_its_weights_to_the_same_end(
    photos: Path, tmp_path: Path, stop_after: int
) -> None:
    given = saved_run(tmp_path / "given", ("cold", "warm"))
    begin(photos, tmp_path / "whole", weights=given)
    with pytest.raises(TrainingInterruptedError):
        begin(photos, tmp_path / "parts", listener=Listener(stop_after), weights=given)
    shutil.rmtree(given)  # what the weights made of the run stands in its state
    begin(photos, tmp_path / "parts", weights=given, resume=True)
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    descriptions = [json.loads((tmp_path / run / "model.json").read_text()) for run in ("whole", "parts")]
    assert descriptions[0] == descriptions[1]
    assert descriptions[0]["network"]["padding"] == "same"
    assert descriptions[0]["preprocessing"]["mean"] == [0.4, 0.4, 0.4]


def test_resuming_with_other_or_no_weights_is_refused_and_takes_no_random_numbers(photos: Path, tmp_path: Path) -> None:
    given = saved_run(tmp_path / "given", ("cold", "warm"))
    with pytest.raises(TrainingInterruptedError):
        begin(photos, tmp_path / "run", listener=Listener(1), weights=given)
    before = torch.get_rng_state()
    with pytest.raises(RunError, match="network weights: given there, imagenet now"):
        begin(photos, tmp_path / "run", weights="imagenet", resume=True)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RunError, match="network weights: given there, none now"):
        begin(photos, tmp_path / "run", resume=True)
    never, listener = tmp_path / "never", Listener()
    begin(photos, never, weights=given, resume=True, listener=listener)
    assert f"nothing was saved in {never} yet: training starts from the beginning" in listener.said


@pytest.mark.parametrize("stop_after", [1, 0], ids=["stopped", "finished"])
def test_a_run_from_before_an_option_existed_goes_on(photos: Path, tmp_path: Path, stop_after: int) -> None:
    run = tmp_path / "run"
    if stop_after:
        with pytest.raises(TrainingInterruptedError):
            begin(photos, run, listener=Listener(stop_after))
    else:
        begin(photos, run)
    state = load_state(run, torch.device("cpu"))
    options = default_options("mobilenet_v2")
    assert options.keys() == {"padding", "norm_eps"}
    old = {key: value for key, value in state.experiment.network.items() if key not in options}
    save_state(run, replace(state, experiment=replace(state.experiment, network=old)))
    assert "padding" not in torch.load(run / STATE, weights_only=True)["experiment"]["network"]
    begin(photos, run, resume=True)
    assert (run / "scores.json").exists()
