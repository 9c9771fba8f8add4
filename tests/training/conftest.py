"""A tiny training that is real: digits at 8x8 through a narrow MobileNetV3."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mobilenets.data.loader import PreparedImages
from mobilenets.models.registry import create_model
from mobilenets.progress import Progress, Silent, StepReport
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.loop import Training
from mobilenets.training.recipe import Recipe

QUICK = Recipe(
    epochs=2,
    batch_size=16,
    learning_rate=3e-3,
    flip=False,
    crop_padding=1,
    precision="float32",
    memory_format="contiguous",
)


class InterruptAt(Silent):
    """Presses Ctrl-C (a real SIGINT) after a number of steps; never after 0."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


StartTraining = Callable[..., Training]


@pytest.fixture
def start_training(few_digits: PreparedImages) -> StartTraining:
    """Make a `Training` for a run folder; everything but the folder has a default."""

    def start(run: Path, recipe: Recipe = QUICK, progress: Progress | None = None) -> Training:
        torch.manual_seed(recipe.seed)
        model = create_model("mobilenet_v3_small", num_classes=10, width_mult=0.25, image_size=8)
        run.mkdir(parents=True, exist_ok=True)
        return Training(
            model,
            few_digits,
            recipe,
            run,
            experiment=Experiment(model.config.to_dict(), recipe.to_dict(), {"digest": "digits"}),
            device=torch.device("cpu"),
            progress=progress or Silent(),
            classes=10,
        )

    return start
