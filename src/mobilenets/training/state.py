"""`state.pt`: everything a run needs to go on as if it had never stopped.

Every random draw of a step (order, augmentation, dropout) is seeded from the recipe's seed, the epoch and the step, so
no generator's state has to be kept: weights, optimizer, averages and the position are all there is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilenets.errors import RunError, first_line, other_format
from mobilenets.files import write_atomically
from mobilenets.limits import require_regular
from mobilenets.models.config import OptionValue
from mobilenets.models.registry import default_options, list_models
from mobilenets.training.recipe import RENAMED, Recipe

STATE = "state.pt"
PREVIOUS = "state.previous.pt"
FORMAT = 2


@dataclass
class Position:
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

    @property
    def digest(self) -> str:
        """A number for all of it, hexadecimal SHA-256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, other: Experiment) -> list[str]:
        """What `other` has otherwise, e.g. `recipe learning_rate: 0.001 there, 0.01 now`.

        An option of the network or the recipe that this one does not name has its default: it is from before the option
        existed. A field of the recipe that was renamed since is compared under its new name.
        """
        found = []
        for part in ("network", "recipe", "data", "teacher"):
            mine, theirs = getattr(self, part), getattr(other, part)
            if part == "network":
                mine = {**{key: value for key, value in _defaults(mine).items() if key in theirs}, **mine}
            if part == "recipe":
                usual, mine = Recipe().to_dict(), {RENAMED.get(key, key): value for key, value in mine.items()}
                mine = {**{key: value for key, value in usual.items() if mine and key in theirs}, **mine}
            for key in sorted(mine.keys() | theirs.keys()):
                if mine.get(key) != theirs.get(key):
                    found.append(f"{part} {key}: {mine.get(key, 'none')} there, {theirs.get(key, 'none')} now")
        return found

    def longer_by(self, other: Experiment) -> int | None:
        """From how many epochs on `other` is longer than this one, where it is the same but for that; else None."""
        mine, theirs = (one.recipe.get("epochs") for one in (self, other))
        if not isinstance(mine, int) or not isinstance(theirs, int) or theirs <= mine:
            return None
        stretched = replace(self, recipe={**self.recipe, "epochs": theirs})
        return None if stretched.differences(other) else mine


def _defaults(network: dict[str, Any]) -> dict[str, OptionValue]:
    name = network.get("name")
    return default_options(name) if isinstance(name, str) and name in list_models() else {}


@dataclass
class SavedState:
    """The content of `state.pt`; `warning` says where it is not the newest that was written.

    `extensions` has, for each time the run was given more epochs: how many it had, how many it got, and the epochs and
    steps done by then.
    """

    experiment: Experiment
    plan: dict[str, Any]
    position: Position
    model: dict[str, Any]
    optimizer: dict[str, Any]
    ema: dict[str, Any] | None = field(default=None)
    warning: str | None = None
    extensions: list[list[int]] = field(default_factory=list)


def save_state(run: Path, state: SavedState) -> None:
    """Write the state, verified, and keep the one before as `state.previous.pt`.

    Whenever the process is killed, `state.pt` is a whole state: the old one or the new.

    Raises:
        RunError: it can't be written, or does not read back as it was written; the states there are unharmed.
    """
    content = {
        "format": FORMAT,
        "experiment": asdict(state.experiment),
        "plan": state.plan,
        "progress": asdict(state.position),
        "model": state.model,
        "optimizer": state.optimizer,
        "ema": state.ema,
        "extensions": state.extensions,
    }
    # By way of memory: torch reports a full disk as an internal error of its writer, Python as what it is.
    buffer = io.BytesIO()
    torch.save(content, buffer)

    def write(temporary: Path) -> None:
        temporary.write_bytes(buffer.getbuffer())
        if (fault := fault_of(temporary)) is not None:
            raise OSError(f"what was written does not read back: {fault}; the disk may be failing")

    write_atomically(run / STATE, write, before=lambda: _keep_previous(run))


def load_state(run: Path, device: torch.device) -> SavedState:
    """Read the newest whole state a run left; tensors only, nothing in the file is executed.

    Where the newest is damaged the one before is read, and `warning` says so.

    Raises:
        RunError: there is none, none is whole, or it is of another format.
    """
    if not (run / STATE).exists() and not (run / PREVIOUS).exists():
        raise RunError(f"nothing to resume: {run / STATE} does not exist; leave out `resume=True` to start")
    try:
        return _read_state(run / STATE, device)
    except _DamagedError as damaged:
        try:
            state = _read_state(run / PREVIOUS, device)
        except _DamagedError:
            raise RunError(f"{damaged}; start the run anew in another folder") from damaged
        state.warning = f"{damaged}; going on from the state before it"
        return state


def drop_damaged(run: Path) -> None:
    """Remove a newest state that turned out damaged: with the next one it would take the place of the whole spare.

    Raises:
        RunError: it can't be removed.
    """
    try:
        (run / STATE).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{run / STATE} is damaged and can't be removed ({error.strerror or error})") from error


def has_state(run: Path) -> bool:
    """Whether a run folder holds a state, whole or not."""
    return (run / STATE).exists() or (run / PREVIOUS).exists()


def fault_of(path: Path) -> str | None:
    """What is wrong with a file of torch's as a zip: None where every byte is as its checksums say.

    torch itself loads weights with flipped bits without a word: it does not look at the checksums it writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        return first_line(error)
    return None if damaged is None else f"the checksum of {damaged} is wrong"


class _DamagedError(Exception):
    """A state that is not whole."""


def _read_state(path: Path, device: torch.device) -> SavedState:
    try:
        require_regular(path)
        if path.stat().st_size == 0:
            raise _DamagedError(f"{path} is empty (0 bytes)")
    except OSError as error:
        raise _DamagedError(f"{path} can't be read ({error.strerror or error})") from error
    try:
        if (fault := fault_of(path)) is not None:
            raise _DamagedError(f"{path} is damaged ({fault})")
        content = torch.load(path, map_location=device, weights_only=True)
        if (found := content.pop("format")) != FORMAT:
            raise RunError(f"{path} {other_format(found, FORMAT, 'start the run anew')}")
        experiment = Experiment(**content.pop("experiment"))
        position = Position(**content.pop("progress"))
        return SavedState(experiment=experiment, position=position, **content)
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:
        raise _DamagedError(f"{path} is damaged ({first_line(error)})") from error
    except OSError as error:
        raise _DamagedError(f"{path} can't be read ({error.strerror or error})") from error


def _keep_previous(run: Path) -> None:
    """Give the state a second name, from which the new one does not take it."""
    state, second = run / STATE, run / f".{Path(PREVIOUS).stem}~{'0' * 8}.pt"
    if not state.exists():
        return
    second.unlink(missing_ok=True)
    try:
        os.link(state, second)
    except OSError:  # a file system without links: for a moment only the previous state is there, and is found
        state.replace(run / PREVIOUS)
        return
    second.replace(run / PREVIOUS)


def derived_seed(seed: int, *place: int) -> int:
    """A seed for one place of a run (epoch, step, purpose), independent of those of all other places."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)
