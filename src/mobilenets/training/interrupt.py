"""Ctrl-C and SIGTERM as requests: the loop finishes its step, saves, and stops in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked to stop, and by which signal (0 where nobody did)."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_on_interrupt(acknowledge: Callable[[], None]) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a `StopRequest`; a second one interrupts at once.

    `acknowledge` is called when it comes, since the step under way may take seconds. Outside the main thread, where
    Python can't handle signals, the request simply never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt
        request.signal = number
        acknowledge()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
