"""Several processes training one network: torchrun starts them, `DistributedDataParallel` joins their gradients.

A team of one process is the ordinary case and costs nothing. In a larger one the main process, of rank 0, alone reads
and writes the run folder, chooses and reports, and broadcasts the outcome. Each takes an equal share of every batch.

One error ends the whole team: it is reported once, and all processes exit by it, soon and with the same exit code. The
process that fails first leaves its error in the store that the processes met by. A thread in each of the others finds
it there. They may be waiting for a process that has failed: its closed connection ends that, and otherwise, after a
while, the thread does.
"""

from __future__ import annotations

import base64
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import torch
from torch import distributed, nn
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from mobilenets.data.loader import Share
from mobilenets.errors import (
    DataError,
    MobilenetsError,
    RecipeError,
    TrainingError,
    TrainingInterruptedError,
    first_line,
)

_KEY: Final = "mobilenets failure"
_POLL_SECONDS: Final = 0.2
_HEARD_SECONDS: Final = 5.0
"""How long the failed process, which may hold the store, waits until all others have read its error."""
_PATIENCE_SECONDS: Final = 30.0
"""How long a process may take to end by itself once it knows that another has failed."""
_STORE_GONE: Final = (distributed.DistError, RuntimeError, ValueError)


class TeamFailure:
    """The first error of any process of a team, seen from one of them.

    Args:
        store: the key-value store that all of them share.
        rank: of this process.
        count: number of processes.
    """

    def __init__(self, store: Store, rank: int, count: int) -> None:
        self._store = store
        self._rank = rank
        self._count = count
        self._theirs: MobilenetsError | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="team failure", daemon=True)
        self._watching.start()

    def close(self) -> None:
        """This process has left the team, well or not."""
        self._over.set()
        self._watching.join(_HEARD_SECONDS)

    def first_error(self, error: BaseException) -> BaseException:
        """The error to end by: this process's own where it is the first, else that of another, which reports it."""
        if isinstance(error, MobilenetsError) and error.told:
            return error
        theirs = self._theirs
        if theirs is None:
            try:
                said = self._store.compare_set(_KEY, "", _written(self._rank, _as_ours(error, self._rank)))
                first, theirs = _read(said)
                if first == self._rank:
                    self._wait_until_heard()
                    return error
                self._hear(theirs)
            except _STORE_GONE:  # with the process that kept it: then this one is on its own
                return error
        theirs.told = True
        return theirs

    def _hear(self, error: MobilenetsError) -> None:
        """Keep another process's error, once, and acknowledge it."""
        with self._lock:
            if self._theirs is None:
                self._theirs = error
                self._store.add(f"{_KEY} heard", 1)

    def _wait_until_heard(self) -> None:
        deadline = time.monotonic() + _HEARD_SECONDS
        while self._store.add(f"{_KEY} heard", 0) < self._count - 1 and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 4)

    def _watch(self) -> None:
        """In the thread: wait for another's failure, acknowledge it, and make this process end by it."""
        with suppress(*_STORE_GONE):
            while not self._over.wait(_POLL_SECONDS):
                if self._store.check([_KEY]):
                    break
            if self._over.is_set():
                return
            first, error = _read(self._store.get(_KEY))
            if first == self._rank:
                return
            self._hear(error)
            if not self._over.wait(_PATIENCE_SECONDS):
                os._exit(error.exit_code)


def _as_ours(error: BaseException, rank: int) -> MobilenetsError:
    """The error that the other processes end by, with the exit code that the command gives it."""
    if isinstance(error, MobilenetsError):
        return error
    if not isinstance(error, Exception):  # Ctrl-C or a signal
        stopped = TrainingInterruptedError(f"process {rank} was stopped")
        stopped.exit_code = getattr(error, "exit_code", stopped.exit_code)
        return stopped
    other = TrainingError(f"process {rank} failed: {first_line(error)}")
    if isinstance(error, OSError):
        other.exit_code = MobilenetsError.exit_code
    return other


def _written(rank: int, error: MobilenetsError) -> str:
    return f"{rank} {base64.b64encode(pickle.dumps(error)).decode()}"


def _read(said: bytes) -> tuple[int, MobilenetsError]:
    """Who failed first, and by what; it comes from a process of the same training, as all that they exchange."""
    rank, _, error = said.decode().partition(" ")
    found = pickle.loads(base64.b64decode(error))
    if not isinstance(found, MobilenetsError):
        raise ValueError("no error of ours")
    return int(rank), found


Result = TypeVar("Result")

# A process that dies is noticed at once, by its closed connection. This is for one that hangs, and has to be longer
# than the main process's reading of a whole data set while the others wait.
_PATIENCE: Final = timedelta(hours=6)
_MEETING: Final = timedelta(minutes=3)
"""For all to connect: one that was killed meanwhile is noticed by torchrun, which starts all of them again."""
_LOST: Final = ("connection", "broken pipe", "peer", "timed out", "socket", "nccl")


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen from one of them.

    Attributes:
        rank: its number, from 0.
        count: number of processes.
        restarts: how often torchrun has restarted all of them, after one was lost.
        launch: identifies one call of torchrun; empty without it.
    """

    rank: int = 0
    count: int = 1
    restarts: int = 0
    launch: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports."""
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
        """The network to call in training: in a team, its gradients are the mean over all processes."""
        if self.count == 1:
            return model
        place = [device.index] if device.type == "cuda" else None
        return cast(nn.Module, DistributedDataParallel(model, device_ids=place))

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        """Add up each value over all processes."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
        distributed.all_reduce(total)
        return cast(list[float], total.tolist())

    def largest(self, value: int, device: torch.device) -> int:
        """The largest of all processes' values."""
        if self.count == 1:
            return value
        found = torch.tensor(value, device=device if device.type == "cuda" else "cpu")
        distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
        return int(found)

    def run_on_main(self, act: Callable[[], Result]) -> Result:
        """Run `act` in the main process and return its result in all; its error is raised in all, too.

        Raises:
            MobilenetsError: the main process's.
        """
        if self.count == 1:
            return act()
        told: list[Any] = [None, None]
        if self.is_main:
            try:
                told[0] = act()
            except MobilenetsError as error:
                told[1] = error
        distributed.broadcast_object_list(told)
        if told[1] is not None:
            told[1].told = not self.is_main
            raise told[1]
        return cast(Result, told[0])

    def gather(self, value: Result) -> list[Result]:
        """Every process's value, in order of rank, in the main process; an empty list in the others."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.is_main else None
        distributed.gather_object(value, found)
        return found or []


SOLO: Final = Team()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Join the processes torchrun started beside this one, if any, for the time of the block.

    What one of them raises in the block ends all, and one reports it: in the others it is marked as `told`.

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
        shared = own if failure is None else failure.first_error(own)
        if shared is error:
            raise
        raise shared from error
    finally:
        if failure is not None:
            failure.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _lost(error: BaseException) -> TrainingError | None:
    """One line for a lost process: the other processes' calls fail then, with messages that depend on the call."""
    if not isinstance(error, distributed.DistError | RuntimeError) or isinstance(error, MobilenetsError):
        return None
    if not any(word in str(error).lower() for word in _LOST):
        return None
    return TrainingError(f"another process of this training was lost ({first_line(error)})")


def _connect(backend: str) -> Store:
    """Join the process group under a prefix of the store that is this attempt's own.

    torchrun keeps one store for all attempts, where those of a killed attempt have left their addresses: a process that
    reads before the other has written would connect to a dead one. A prefix for each attempt keeps them apart.
    """
    store, rank, count = next(rendezvous("env://", timeout=_MEETING))
    own = PrefixStore(f"attempt{_restarts()}", store)
    distributed.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=_MEETING)
    # Its public name is younger than the oldest PyTorch supported here.
    set_timeout = getattr(distributed, "set_timeout", None) or distributed_c10d._set_pg_timeout
    set_timeout(_PATIENCE, distributed.group.WORLD)
    return own


def local_device(device: torch.device) -> torch.device:
    """The device of this process: of several GPUs, the one of its local rank."""
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _launch() -> str:
    """torchrun's own process stays while it starts trainings again and again."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return "" if run is None else f"{run} {os.getppid()}"
