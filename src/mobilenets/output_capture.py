"""Keeping native libraries' remarks off the screen while a file is loaded."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
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


# Keeping translators' remarks, which concern their authors, off the user's screen.


# What is held back is the whole process's: two threads that each put back what they found would keep it for good.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, logs and whatever Python code prints. A second thread waits until the first is done."""
    with _ONE_AT_A_TIME:
        yield from _quiet()


def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """As `quiet`, and also what C++ libraries write to the process's own output and error streams.

    For a moment the whole process is mute, other threads too: use it around what needs it and no more.
    """
    with _ONE_AT_A_TIME:
        yield from _silent()


def _silent() -> Iterator[None]:
    streams = (1, 2)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in streams]
    try:
        with tempfile.TemporaryFile() as sink, quiet():
            for stream in streams:
                os.dup2(sink.fileno(), stream)
            yield
    finally:
        for stream, original in zip(streams, kept, strict=True):
            os.dup2(original, stream)
            os.close(original)
