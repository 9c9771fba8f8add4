"""Keeping translators' remarks, which concern their authors, off the user's screen."""

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
