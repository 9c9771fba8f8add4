"""Keeping native libraries' remarks off the screen while a file is loaded."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

_STDERR = 2


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 and to `sys.stderr` nowhere.

    Runtimes greet and complain there from C++, where no option of theirs reaches it, and some through `sys.stderr`.
    What matters comes as an exception, too. The descriptor is the whole process's, so keep the time short.
    """
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a process started without one has nothing to keep clean
        yield
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(nowhere)
        os.close(kept)
