"""Several processes training one network: torchrun starts them, `DistributedDataParallel` joins their gradients.

A team of one is the ordinary case and costs nothing. In a larger one the member with rank 0 leads: it alone reads and
writes the run folder, chooses and reports, and the others are told. Each takes an equal share of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import torch
from torch import distributed, nn
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from mobilenets.data.training_images import Share
from mobilenets.errors import DataError, MobilenetsError, RecipeError, TrainingError, first_line
from mobilenets.training.team_failure import TeamFailure

Result = TypeVar("Result")

# A member that dies is noticed at once, by its closed connection. This is for one that hangs, and has to be longer than
# the leader's reading of a whole data set while the others wait.
_PATIENCE: Final = timedelta(hours=6)
_MEETING: Final = timedelta(minutes=3)
"""For all to be there: one that was killed on the way is noticed by torchrun, which starts all of them again."""
_LOST: Final = ("connection", "broken pipe", "peer", "timed out", "socket", "nccl")


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen by one of them.

    Attributes:
        rank: its number, from 0.
        count: how many they are.
        restarts: how often torchrun has started all of them anew, after one was lost.
        launch: what tells one call of torchrun from another; empty without it.
    """

    rank: int = 0
    count: int = 1
    restarts: int = 0
    launch: str = ""

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """Its part of every batch."""
        return Share(self.rank, self.count)

    def check_images(self, count: int) -> None:
        """Refuse to train on fewer images than there are processes.

        Raises:
            DataError: there are fewer.
        """
        there = "1 training image" if count == 1 else f"{count} training images"
        if count == 0:
            raise DataError("there are no training images")
        if count < self.count:
            raise DataError(f"{there} for {self.count} processes; start at most {count}, or give more images")

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that can't be parted equally: its gradient would not be that of the whole.

        Raises:
            RecipeError: it can't.
        """
        if batch_size % self.count:
            fitting = max(self.count, round(batch_size / self.count) * self.count)
            raise RecipeError(
                f"a batch of {batch_size} images can't be shared equally by {self.count} processes; "
                f"try `batch_size={fitting}`"
            )

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The network to call in training: in a team, its gradients are the mean over all members."""
        if self.count == 1:
            return model
        place = [device.index] if device.type == "cuda" else None
        return cast(nn.Module, DistributedDataParallel(model, device_ids=place))

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        """Add up each value over all members."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
        distributed.all_reduce(total)
        return cast(list[float], total.tolist())

    def largest(self, value: int, device: torch.device) -> int:
        """The largest of all members' values."""
        if self.count == 1:
            return value
        found = torch.tensor(value, device=device if device.type == "cuda" else "cpu")
        distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
        return int(found)

    def led(self, act: Callable[[], Result]) -> Result:
        """Let the leader act and tell all what came of it; what it refuses, all refuse.

        Raises:
            MobilenetsError: the leader's.
        """
        if self.count == 1:
            return act()
        told: list[Any] = [None, None]
        if self.leads:
            try:
                told[0] = act()
            except MobilenetsError as error:
                told[1] = error
        distributed.broadcast_object_list(told)
        if told[1] is not None:
            told[1].told = not self.leads
            raise told[1]
        return cast(Result, told[0])

    def gather(self, value: Result) -> list[Result]:
        """Every member's value, in order of rank, to the leader; nothing to the others."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.leads else None
        distributed.gather_object(value, found)
        return found or []


SOLO: Final = Team()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Join the processes torchrun started beside this one, if any, for the time of the block.

    What one of them raises in the block ends all, and one tells it: in the others it is marked as `told`.

    Raises:
        TrainingError: another of them was lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Team(restarts=_restarts(), launch=_launch())
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    failure: TeamFailure | None = None
    try:
        store = _connect(backend)
        rank, count = distributed.get_rank(), distributed.get_world_size()
        failure = TeamFailure(store, rank, count)
        yield Team(rank, count, _restarts(), _launch())
    except BaseException as error:
        own = _lost(error) or error
        shared = own if failure is None else failure.settle(own)
        if shared is error:
            raise
        raise shared from error
    finally:
        if failure is not None:
            failure.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _lost(error: BaseException) -> TrainingError | None:
    """In one line that another process is gone: the others' calls fail then, in words that depend on the call."""
    if not isinstance(error, distributed.DistError | RuntimeError) or isinstance(error, MobilenetsError):
        return None
    if not any(word in str(error).lower() for word in _LOST):
        return None
    return TrainingError(f"another process of this training was lost ({first_line(error)})")


def _connect(backend: str) -> Store:
    """Meet the other processes, in a place that is this attempt's own.

    torchrun keeps one store for all attempts, where those of a killed attempt have left their addresses: whoever reads
    before the other has written calls nobody. A prefix for each attempt keeps them apart.
    """
    store, rank, count = next(rendezvous("env://", timeout=_MEETING))
    own = PrefixStore(f"attempt{_restarts()}", store)
    distributed.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=_MEETING)
    # Its public name is younger than the oldest PyTorch taken here.
    set_timeout = getattr(distributed, "set_timeout", None) or distributed_c10d._set_pg_timeout
    set_timeout(_PATIENCE, distributed.group.WORLD)
    return own


def local_device(device: torch.device) -> torch.device:
    """The processor of this member: of several GPUs, the one of its place on this machine."""
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _launch() -> str:
    """torchrun's own process stays while it starts trainings again and again."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return "" if run is None else f"{run} {os.getppid()}"
