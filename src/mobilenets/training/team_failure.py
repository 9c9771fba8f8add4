"""The one error that ends a team: told once, and all its processes end by it, soon and with the same exit code.

Who fails first leaves its error in the store that the processes met by. A thread in each of the others finds it there.
They may be waiting for a process that has failed: its closed connection ends that, and otherwise, after a while, the
thread does.
"""

from __future__ import annotations

import base64
import os
import pickle
import threading
import time
from contextlib import suppress
from typing import Final

from torch import distributed
from torch.distributed.distributed_c10d import Store

from mobilenets.errors import MobilenetsError, TrainingError, TrainingInterruptedError, first_line

_KEY: Final = "mobilenets failure"
_POLL_SECONDS: Final = 0.2
_HEARD_SECONDS: Final = 5.0
"""So long the one that failed stays, with the store it may keep, until all others know why."""
_PATIENCE_SECONDS: Final = 30.0
"""So long a process may take to end by itself once it knows that another has failed."""
_STORE_GONE: Final = (distributed.DistError, RuntimeError, ValueError)


class TeamFailure:
    """What ended the team, seen by one of its processes.

    Args:
        store: what all of them share.
        rank: this one's number.
        count: how many they are.
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

    def settle(self, error: BaseException) -> BaseException:
        """The error to end by: this process' own where it is the first, else that of another, which tells it."""
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
        """Take notice of another's failure, once, and say so."""
        with self._lock:
            if self._theirs is None:
                self._theirs = error
                self._store.add(f"{_KEY} heard", 1)

    def _wait_until_heard(self) -> None:
        deadline = time.monotonic() + _HEARD_SECONDS
        while self._store.add(f"{_KEY} heard", 0) < self._count - 1 and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 4)

    def _watch(self) -> None:
        """In the thread: wait for another's failure, say that it was heard, and see that this process ends by it."""
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
    """What the others are to end by, with the exit code that the command gives such an error."""
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
