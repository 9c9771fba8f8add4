"""When a run's state is written, and what going on from it takes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mobilenets.errors import RunError, first_line
from mobilenets.progress import Progress
from mobilenets.training.distributed import Team
from mobilenets.training.plan import ComputePlan
from mobilenets.training.state import Experiment, Position, SavedState, drop_damaged, load_state, save_state

SAVE_SECONDS = 60.0
"""Between two saved states, unless a run is told otherwise: what being killed may cost."""


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
    """The states of one run, written by the leader of its team.

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
        """Whether it is time for the next state: as often as told, yet writing takes a twentieth of the time at most.

        Told 0 seconds, it always is.
        """
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
            progress: told where the run goes on.

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
        """What the network is to remember of epochs it was given later, for its provenance."""
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


# Ctrl-C and SIGTERM as requests: the loop finishes its step, saves, and stops in good order.


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked to stop, and by which signal (0 where nobody did)."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_on_interrupt(acknowledge: Callable[[], None]) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a `StopRequest`; a second one interrupts at once.

    `acknowledge` is called when it comes, since the step under way may take seconds. Outside the main thread, where
    Python can't handle signals, the request simply never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt
        request.signal = number
        acknowledge()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
