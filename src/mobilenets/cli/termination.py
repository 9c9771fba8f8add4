"""SIGTERM and SIGHUP as an orderly end: temporary folders and processes go, and the exit code is the shell's.

By default these signals end a process where it stands, and whatever a `with` block was to remove stays on the disk.
Training handles SIGTERM itself, since it has a state to save first (`training.interrupt`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """Somebody asked the process to end; whoever cleans up after Ctrl-C cleans up after this too.

    Attributes:
        signal: the signal's number.
        exit_code: what shells give a process which that signal ended, e.g. 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number
        self.exit_code = 128 + number


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Raise `Terminated` in the block when SIGTERM or SIGHUP comes; another one does not disturb the cleaning up.

    A signal that is ignored, as `nohup` has SIGHUP, or that the program handles stays so. Outside the main thread,
    where Python can't handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated(number)

    try:
        for number in ours:
            signal.signal(number, end)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
