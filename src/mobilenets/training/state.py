"""`state.pt`: everything a run needs to go on as if it had never stopped.

Every random draw of a step (order, augmentation, dropout) is seeded from the recipe's seed, the epoch and the step, so
no generator's state has to be kept: weights, optimizer, averages and the position are all there is.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilenets.errors import RunError, first_line
from mobilenets.files import write_bytes_atomically
from mobilenets.models.config import OptionValue
from mobilenets.models.registry import default_options, list_models

STATE = "state.pt"
FORMAT = 1


@dataclass
class Progress:
    """Where a run is: `epoch` epochs done, `step` steps of the next one done, and that epoch's sums so far."""

    epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.images, self.loss_sum, self.correct, self.seconds = 0, 0.0, 0, 0.0


@dataclass(frozen=True)
class Experiment:
    """What must be the same for a run to be continued: the network, the recipe, the images and the teacher, if any."""

    network: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    teacher: dict[str, Any] = field(default_factory=dict)

    def differences(self, other: Experiment) -> list[str]:
        """What `other` has otherwise, e.g. `recipe learning_rate: 0.001 there, 0.01 now`.

        An option of the network that this one does not name has its default: it is from before the option existed.
        """
        found = []
        for part in ("network", "recipe", "data", "teacher"):
            mine, theirs = getattr(self, part), getattr(other, part)
            if part == "network":
                mine = {**{key: value for key, value in _defaults(mine).items() if key in theirs}, **mine}
            for key in sorted(mine.keys() | theirs.keys()):
                if mine.get(key) != theirs.get(key):
                    found.append(f"{part} {key}: {mine.get(key, 'none')} there, {theirs.get(key, 'none')} now")
        return found


def _defaults(network: dict[str, Any]) -> dict[str, OptionValue]:
    name = network.get("name")
    return default_options(name) if isinstance(name, str) and name in list_models() else {}


@dataclass
class SavedState:
    """The content of `state.pt`."""

    experiment: Experiment
    plan: dict[str, str]
    progress: Progress
    model: dict[str, Any]
    optimizer: dict[str, Any]
    ema: dict[str, Any] | None = field(default=None)


def save_state(run: Path, state: SavedState) -> None:
    """Write the state; the one before stays until the new one is whole."""
    content = {
        "format": FORMAT,
        "experiment": asdict(state.experiment),
        "plan": state.plan,
        "progress": asdict(state.progress),
        "model": state.model,
        "optimizer": state.optimizer,
        "ema": state.ema,
    }
    # By way of memory: torch reports a full disk as an internal error of its writer, Python as what it is.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes_atomically(run / STATE, buffer.getvalue())


def load_state(run: Path, device: torch.device) -> SavedState:
    """Read the state a run left; tensors only, nothing in the file is executed.

    Raises:
        RunError: it is missing, damaged, or of another format.
    """
    path = run / STATE
    try:
        if path.exists() and not zipfile.is_zipfile(path):  # torch would take it for its old format and guess
            raise RunError(f"{path} is damaged; start the run anew in another folder")
        content = torch.load(path, map_location=device, weights_only=True)
        if content.pop("format") != FORMAT:
            raise RunError(f"{path} was written by another version of mobilenets; start the run anew")
        experiment = Experiment(**content.pop("experiment"))
        progress = Progress(**content.pop("progress"))
        return SavedState(experiment=experiment, progress=progress, **content)
    except FileNotFoundError as error:
        raise RunError(f"nothing to resume: {path} does not exist; leave out --resume to start") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({first_line(error)}); start the run anew in another folder") from error


def derived_seed(seed: int, *place: int) -> int:
    """A seed for one place of a run (epoch, step, purpose), independent of those of all other places."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)
