"""`state.pt`: everything a run needs to go on as if it had never stopped, when it is written, and going on from it.

Every random draw of a step (order, augmentation, dropout) is seeded from the recipe's seed, the epoch and the step, so
no generator's state has to be kept: weights, optimizer, averages and the position are all there is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mobilenets.errors import RunError, first_line, other_format
from mobilenets.files import write_atomically
from mobilenets.limits import require_regular
from mobilenets.models.config import OptionValue
from mobilenets.models.registry import default_options, list_models
from mobilenets.progress import Progress
from mobilenets.training.distributed import Team
from mobilenets.training.plan import ComputePlan
from mobilenets.training.progress import Position
from mobilenets.training.recipe import RENAMED, Recipe

STATE = "state.pt"


PREVIOUS = "state.previous.pt"


FORMAT = 2


SAVE_SECONDS = 60.0
"""Between two saved states, unless a run is told otherwise: what being killed may cost."""


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

    torch itself silently loads weights with flipped bits: it does not look at the checksums it writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        return first_line(error)
    return None if damaged is None else f"the checksum of {damaged} is wrong"


_LOAD_FAULTS = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError)


class _DamagedError(Exception):
    """A state that is not whole."""


def _read_state(path: Path, device: torch.device) -> SavedState:
    try:
        require_regular(path)
        if path.stat().st_size == 0:
            raise _DamagedError(f"{path} is empty (0 bytes)")
        if (fault := fault_of(path)) is not None:
            raise _DamagedError(f"{path} is damaged ({fault})")
        content = torch.load(path, map_location=device, weights_only=True)
        if (found := content.pop("format")) != FORMAT:
            raise RunError(f"{path} {other_format(found, FORMAT, 'start the run anew')}")
        experiment = Experiment(**content.pop("experiment"))
        position = Position(**content.pop("progress"))
        return SavedState(experiment=experiment, position=position, **content)
    except _LOAD_FAULTS as error:
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


@dataclass(frozen=True)
class Trained:
    """All that changes in training: what a state is made of and put back into."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None


@dataclass(frozen=True)
class Restored:
    """Where a run was: how it computed, in how many parts a batch, its position, and its epochs if it has more now."""

    plan: ComputePlan
    parts: int
    position: Position
    longer_than: int | None = None


class Checkpoints:
    """The states of one run, written by the main process.

    Args:
        run: the run folder.
        experiment: what the run is.
        device: what it computes on.
        team: the processes that train together.
        seconds: at most so much time passes between two states, plus a step; 0 for one after every step.
        decoded_by: what decodes the images, in words.
    """

    def __init__(
        self, run: Path, experiment: Experiment, device: torch.device, team: Team, seconds: float, decoded_by: str
    ) -> None:
        self.run = run
        self.experiment = experiment
        self.device = device
        self.team = team
        self.seconds = seconds
        self.decoded_by = decoded_by
        self.extensions: list[list[int]] = []
        self._saved_at = time.monotonic()
        self._took = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for the next state; writing takes at most a twentieth of the time, except with 0 s."""
        wait = max(self.seconds, 20 * self._took) if self.seconds else 0.0
        return self.team.is_main and time.monotonic() - self._saved_at >= wait

    def save(self, trained: Trained, plan: ComputePlan, parts: int, position: Position) -> None:
        """Write the state.

        Raises:
            RunError: it can't be written; the states there are unharmed.
        """
        if not self.team.is_main:
            return
        start = time.monotonic()
        state = SavedState(
            experiment=self.experiment,
            plan={**asdict(plan), "device": self.device.type, "parts": parts, "decoded by": self.decoded_by},
            position=position,
            model=trained.model.state_dict(),
            optimizer=trained.optimizer.state_dict(),
            ema=trained.ema.state_dict() if trained.ema is not None else None,
            extensions=self.extensions,
        )
        save_state(self.run, state)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - start

    def restore(self, trained: Trained, *, force: bool, progress: Progress) -> Restored:
        """Put the newest whole state back.

        Args:
            trained: what it is put into.
            force: do so even if it is that of another experiment.
            progress: receives where the run goes on.

        Raises:
            RunError: there is none, or it is of another experiment, or does not fit.
        """
        state = self.team.run_on_main(lambda: self._load(force, progress))
        plan = ComputePlan(state.plan["precision"], state.plan["memory_format"])
        trained.model.to(memory_format=plan.layout)
        try:
            same = state.experiment.recipe.get("optimizer") == self.experiment.recipe.get("optimizer")
            _put_back(state, trained, same_optimizer=same)
        except (RuntimeError, ValueError, KeyError) as error:
            why = f"{self.run}: its state does not fit this network and recipe ({first_line(error)})"
            raise RunError(f"{why}; train in another folder, or start from the `weights` of this one") from error
        where = f"epoch {state.position.epoch}, step {state.position.step}"
        progress.message(f"resumed after {where}, on {self.device.type} in {plan}")
        if state.plan["device"] != self.device.type:
            progress.message(f"begun on {state.plan['device']}: the weights will differ a little from its own")
        decoded_by = state.plan.get("decoded by", self.decoded_by)
        if decoded_by != self.decoded_by:
            progress.message(
                f"warning: begun with training images decoded {decoded_by}, now {self.decoded_by}: the weights will "
                "differ a little from its own"
            )
        self.extensions = list(state.extensions)
        had, has = state.experiment.recipe.get("epochs"), self.experiment.recipe.get("epochs")
        if isinstance(had, int) and isinstance(has, int) and has > had:
            self.extensions.append([had, has, state.position.epoch, state.position.step])
            return Restored(plan, state.plan["parts"], state.position, longer_than=had)
        return Restored(plan, state.plan["parts"], state.position)

    @property
    def record(self) -> dict[str, str]:
        """What the network's provenance says of epochs that were added later."""
        told = [
            f"from {had} to {has} epochs after epoch {epoch}" + (f", step {step}" if step else "")
            for had, has, epoch, step in self.extensions
        ]
        return {"extended": "; ".join(told)} if told else {}

    def _load(self, force: bool, progress: Progress) -> SavedState:
        state = load_state(self.run, torch.device("cpu"))
        if state.warning is not None:
            progress.message(f"warning: {state.warning}")
            drop_damaged(self.run)
        if (forced := check_same(self.run, state.experiment, self.experiment, force=force)) is not None:
            progress.message(forced)
        return state


def check_same(run: Path, begun: Experiment, now: Experiment, *, force: bool) -> str | None:
    """Refuse to go on with something else than was begun, or with `force` say what differs; None where nothing does.

    More epochs than it was begun with are no other experiment: then the run is extended, and that is said.

    Raises:
        RunError: they differ; the message names the differences.
    """
    differences = begun.differences(now)
    if not differences:
        return None
    if (had := begun.longer_by(now)) is not None:
        return f"extended from {had} to {now.recipe['epochs']} epochs"
    named = "; ".join(differences)
    if not force:
        raise RunError(
            f"{run} is another experiment: {named}. Choose another folder, or `resume=True` `force=True` to go on all "
            "the same"
        )
    return f"warning: going on with another experiment, as forced: {named}"


def _put_back(state: SavedState, trained: Trained, *, same_optimizer: bool) -> None:
    """Load what was saved. An optimizer of another kind keeps other things of each weight: it begins without any."""
    trained.model.load_state_dict(state.model)
    groups: list[dict[str, Any]] = [dict(group) for group in trained.optimizer.param_groups]
    if same_optimizer:
        trained.optimizer.load_state_dict(state.optimizer)
    for group, own in zip(trained.optimizer.param_groups, groups, strict=True):
        group.update({name: value for name, value in own.items() if name != "params"})  # the recipe's, if forced
    if trained.ema is not None:
        trained.ema.load_state_dict(state.ema if state.ema is not None else _fresh(trained.model))


def _fresh(model: nn.Module) -> dict[str, Any]:
    """An average that begins now: a forced change of recipe may ask for one that was not kept before."""
    return {"n_averaged": torch.tensor(0), **{f"module.{name}": value for name, value in model.state_dict().items()}}
