"""Sharing what only one thread may use at a time, such as an interpreter, among any number of threads; no PyTorch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from mobilenets.machine import usable_cores

Item = TypeVar("Item")

_LEAST: Final = 2  # part of an answer runs on one core whatever `threads` says: a second caller uses the others
_CHECK_SECONDS: Final = 1.0


def pool_size(threads: int) -> int:
    """How many answers of so many threads this machine computes at once: more would only take memory."""
    return max(_LEAST, usable_cores() // threads)


class _Loan(Generic[Item]):
    """What a thread has borrowed."""

    item: Item | None = None


class Pool(Generic[Item]):
    """At most so many items, each made when all others are borrowed, each with one thread at a time.

    Whatever ends a thread's use of an item, its place is free again: the loans are counted by the objects that stand
    for them, which vanish with the frames of the thread, even where Ctrl-C comes between two lines of this class.

    Args:
        make: makes an item; called from the thread that needs it, also from several at once.
        most: items in use at a time; further threads wait.
    """

    def __init__(self, make: Callable[[], Item], most: int) -> None:
        self._make = make
        self._most = most
        self._idle: list[Item] = []
        self._loans: weakref.WeakSet[_Loan[Item]] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)

    def add(self, item: Item) -> None:
        """Put in an item that was made already."""
        with self._lock:
            self._idle.append(item)

    @contextmanager
    def borrow(self) -> Iterator[Item]:
        """Have an item for the time of the block. One whose use raises is not used again: its state is unknown."""
        loan: _Loan[Item] = _Loan()
        whole = False
        try:
            self._take(loan)
            if loan.item is None:
                loan.item = self._make()
            yield loan.item
            whole = True
        finally:
            with self._lock:  # not as the condition, whose own `__enter__` Ctrl-C could break off with the lock taken
                self._loans.discard(loan)
                if whole and loan.item is not None:
                    self._idle.append(loan.item)
                self._returned.notify()

    def _take(self, loan: _Loan[Item]) -> None:
        with self._lock:
            while len(self._loans) >= self._most:
                self._returned.wait(_CHECK_SECONDS)  # not for ever: a thread that was stopped may not have said so
            self._loans.add(loan)
            if self._idle:
                loan.item = self._idle.pop()
