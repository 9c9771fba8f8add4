"""Distillation through `train`: it changes what is learnt, is remembered, and resumes with the same teacher only."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mobilenets.errors import ModelError, RecipeError, RunError, TrainingInterruptedError, WeightsError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, load_network, save_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent, StepReport
from mobilenets.training.checkpoints import STATE
from mobilenets.training.recipe import Recipe
from mobilenets.workflows.train import train

pytestmark = pytest.mark.slow

RECIPE = Recipe(
    epochs=1,
    batch_size=4,
    learning_rate=1e-3,
    flip=False,
    crop_padding=1,
    precision="float32",
    memory_format="contiguous",
)
NETWORK = {"width_mult": 0.25, "image_size": 16}
CLASSES = ("cold", "mild", "warm")


class Listener(Silent):
    """Keeps what it is told; presses Ctrl-C (a real SIGINT) after a number of steps."""

    def __init__(self, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self.verbs: set[str] = set()
        self.left = stop_after

    def message(self, text: str) -> None:
        self.said.append(text)

    def step(self, report: StepReport) -> None:
        self.verbs.add(report.verb)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def teacher(folder: Path, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    torch.manual_seed(seed)
    model = create_model("mobilenet_v1", num_classes=len(classes), **NETWORK)  # type: ignore[arg-type]
    # Opinions, so that the student can be seen to adopt them.
    torch.nn.init.normal_(model.classifier.bias, std=3.0)
    save_network(folder, SavedNetwork(model, classes, Preprocessing(16, mean=(0.4,), std=(0.3,)), {}))
    return folder


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path) -> None:
    """Three classes of 5 small pictures, one of each for testing."""
    random = np.random.default_rng(0)
    for name, level in zip(CLASSES, (50, 120, 190), strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            pixels = (level + random.integers(-40, 40, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")


def begin(run: Path, listener: Listener | None = None, **changes: object) -> None:
    arguments = {"recipe": RECIPE, "device": "cpu", **NETWORK, **changes}
    train("mobilenet_v2", run.parent / "photos", run, progress=listener or Listener(), **arguments)  # type: ignore[arg-type]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_it_is_said_remembered_and_changes_what_is_learnt(tmp_path: Path) -> None:
    folder, listener = teacher(tmp_path / "large"), Listener()
    begin(tmp_path / "plain")
    begin(tmp_path / "taught", listener, teacher=folder, temperature=2.0)
    assert listener.said[0] == "learning from large (mobilenet_v1 x0.25 16px)"
    assert "distilling on cpu in float32, contiguous (as the recipe says)" in listener.said
    assert listener.verbs == {"distilling"}
    plain, taught = weights(tmp_path / "plain"), weights(tmp_path / "taught")
    assert not torch.equal(plain["classifier.bias"], taught["classifier.bias"])
    provenance = load_network(tmp_path / "taught").provenance
    assert provenance["teacher"] == "large"
    assert provenance["teacher_network"] == "mobilenet_v1 x0.25 16px"
    assert len(provenance["teacher_sha256"]) == 64
    recipe = tomllib.loads((tmp_path / "taught" / "recipe.toml").read_text())
    assert (recipe["temperature"], recipe["distill_weight"]) == (2.0, 0.9)
    assert "teacher" not in load_network(tmp_path / "plain").provenance
    assert "temperature" not in (tmp_path / "plain" / "recipe.toml").read_text()


def test_a_student_learns_its_teachers_answers(tmp_path: Path) -> None:
    """All the loss from the teacher: the student must come to prefer the class that the teacher always gives."""
    folder = teacher(tmp_path / "stubborn", seed=4)
    liked = int(load_file(folder / "model.safetensors")["classifier.bias"].argmax())
    begin(tmp_path / "run", teacher=folder, distill_weight=1.0, temperature=1.0, epochs=3, learning_rate=0.05)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    called = [sum(row[label] for row in scores["test"]["confusion"]) for label in range(len(CLASSES))]
    assert called[liked] == scores["test"]["count"]


def test_a_stopped_run_goes_on_with_the_same_teacher_wherever_it_lies_and_no_other(tmp_path: Path) -> None:
    folder = teacher(tmp_path / "large")
    begin(tmp_path / "whole", teacher=folder)
    with pytest.raises(TrainingInterruptedError):
        begin(tmp_path / "parts", Listener(1), teacher=folder)
    other = teacher(tmp_path / "other", seed=1)
    with pytest.raises(RunError, match=r"teacher sha256: [0-9a-f]{64} there, [0-9a-f]{64} now"):
        begin(tmp_path / "parts", teacher=other, resume=True)
    with pytest.raises(RunError, match=r"recipe distill_weight: 0\.9 there, none now"):
        begin(tmp_path / "parts", resume=True)
    with pytest.raises(RunError, match=r"recipe temperature: 4\.0 there, 5\.0 now"):
        begin(tmp_path / "parts", teacher=folder, temperature=5.0, resume=True)
    begin(tmp_path / "parts", teacher=folder.rename(tmp_path / "moved"), resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_from_before_there_were_teachers_goes_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterruptedError):
        begin(tmp_path / "run", Listener(1))
    state = torch.load(tmp_path / "run" / STATE, weights_only=True)
    assert state["experiment"].pop("teacher") == {}
    assert not {"temperature", "distill_weight"} & state["experiment"]["recipe"].keys()
    torch.save(state, tmp_path / "run" / STATE)
    with pytest.raises(RunError, match="teacher network: none there, mobilenet_v1"):
        begin(tmp_path / "run", teacher=teacher(tmp_path / "large"), resume=True)
    begin(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "scores.json").exists()


def test_a_wrong_teacher_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    letters = teacher(tmp_path / "letters", classes=("a", "b", "c"))
    with pytest.raises(WeightsError, match="the teacher letters does not answer cold"):
        begin(tmp_path / "run", teacher=letters)
    with pytest.raises(RecipeError, match="there is no teacher"):
        begin(tmp_path / "run", temperature=2.0)
    for pointless in ({"teacher_model": "mobilenet_v2"}, {"teacher_width_mult": 0.5}):
        with pytest.raises(ModelError, match="there is no teacher; give `teacher`"):
            begin(tmp_path / "run", **pointless)
    assert not (tmp_path / "run").exists()
