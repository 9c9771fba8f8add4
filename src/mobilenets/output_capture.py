"""Keeping what libraries print, log and warn of off the user's screen while they are called.

Each of these is one for the whole process: the file descriptors 1 and 2, `sys.stdout` and `sys.stderr`, the level below
which logs are dropped, and the filters of warnings. Two threads that each put back what they had found would leave it
captured for good, so a `_Capture` counts the blocks that want it: the first begins it, the last ends it. For that time
the output of other threads is captured too: put blocks around what needs them and no more. What matters of a library's
messages comes as an exception.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from mobilenets.machine import lock_across_forks


@contextmanager
def capture_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2, by C++ code too, and to `sys.stderr`."""
    with _all_of(_DESCRIPTOR_2, _STDERR):
        yield


@contextmanager
def capture_python_output() -> Iterator[None]:
    """Drop warnings, logs and what Python code prints, on both streams."""
    with _all_of(_LOGS, _WARNINGS, _STDOUT, _STDERR):
        yield


@contextmanager
def capture_all_output() -> Iterator[None]:
    """As `capture_python_output`, and what C++ code writes to the process's own output and error streams."""
    with _all_of(_DESCRIPTOR_1, _DESCRIPTOR_2, _LOGS, _WARNINGS, _STDOUT, _STDERR):
        yield


@contextmanager
def print_to_stderr() -> Iterator[None]:
    """Let code print, but to stderr, since stdout belongs to the result; drop its warnings and logs."""
    with _all_of(_LOGS, _WARNINGS, _STDOUT_TO_STDERR):
        yield


class _Capture:
    """One thing of the process that is captured while any block wants it.

    Args:
        begin: captures it, and returns what ends that.
    """

    def __init__(self, begin: Callable[[], ExitStack]) -> None:
        self._begin = begin
        self._lock = lock_across_forks()
        self._blocks: set[object] = set()
        self._stack = ExitStack()

    def begin(self, block: object) -> None:
        with self._lock:
            self._blocks.add(block)
            if len(self._blocks) == 1:
                self._stack = self._begin()

    def end(self, block: object) -> None:
        with self._lock:
            self._blocks.discard(block)
            if not self._blocks:
                self._stack.close()


@contextmanager
def _all_of(*captures: _Capture) -> Iterator[None]:
    block = object()
    with ExitStack() as stack:
        for capture in captures:
            stack.callback(capture.end, block)  # first: an interrupt between the two can't leave it captured
            capture.begin(block)
        yield


def _descriptor(number: int) -> ExitStack:
    stack = ExitStack()
    try:
        kept = os.dup(number)
    except OSError:  # a process started without it has nothing to keep clean
        return stack
    stack.callback(os.close, kept)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, nowhere)
    os.dup2(nowhere, number)
    stack.callback(os.dup2, kept, number)
    return stack


def _stream(redirect: Callable[[TextIO], AbstractContextManager[object]], target: Callable[[], TextIO]) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(redirect(target()))
    return stack


def _logs() -> ExitStack:
    stack = ExitStack()
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.CRITICAL)
    return stack


def _warnings() -> ExitStack:
    stack = ExitStack()
    # Recorded and dropped: so are even those that a filter of the code's own lets through.
    stack.enter_context(warnings.catch_warnings(record=True))
    warnings.simplefilter("ignore")
    return stack


_DESCRIPTOR_1 = _Capture(lambda: _descriptor(1))
_DESCRIPTOR_2 = _Capture(lambda: _descriptor(2))
_STDOUT = _Capture(lambda: _stream(redirect_stdout, io.StringIO))
_STDERR = _Capture(lambda: _stream(redirect_stderr, io.StringIO))
_STDOUT_TO_STDERR = _Capture(lambda: _stream(redirect_stdout, lambda: sys.stderr))
_LOGS = _Capture(_logs)
_WARNINGS = _Capture(_warnings)
