"""Keeping native libraries' remarks off the screen while a file is loaded."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr

from mobilenets.machine import lock_across_forks

_STDERR = 2


class _Silence:
    """Which blocks want silence. The descriptor is the whole process's: two threads that each put back what they found
    would leave it silent for good."""

    def __init__(self) -> None:
        self.lock = lock_across_forks()
        self.blocks: set[object] = set()
        self.stack = ExitStack()

    def begin(self, block: object) -> None:
        with self.lock:
            self.blocks.add(block)
            if len(self.blocks) == 1:
                self.stack = _silenced()

    def end(self, block: object) -> None:
        with self.lock:
            self.blocks.discard(block)
            if not self.blocks:
                self.stack.close()


_SILENCE = _Silence()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 and to `sys.stderr` nowhere. Safe to use in several threads at once.

    Runtimes greet and complain there from C++, where no option of theirs reaches it, and some through `sys.stderr`.
    What matters comes as an exception, too. The descriptor is the whole process's, so keep the time short.
    """
    block = object()
    try:
        _SILENCE.begin(block)
        yield
    finally:
        _SILENCE.end(block)


def _silenced() -> ExitStack:
    """Silence both; closing the stack brings them back."""
    stack = ExitStack()
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a process started without one has nothing to keep clean
        return stack
    stack.callback(os.close, kept)
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, nowhere)
    os.dup2(nowhere, _STDERR)
    stack.callback(os.dup2, kept, _STDERR)
    stack.enter_context(redirect_stderr(io.StringIO()))
    return stack
