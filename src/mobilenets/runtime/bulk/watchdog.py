"""Outlives the process that started Ray, and ends the processes it left: `watchdog.py PARENT MARK SCRATCH`.

Ray asks the kernel to end its processes with the one that started them, but not before each has been forked, and not
those that they start in turn. A process that is killed while Ray starts leaves some of them behind. So this one is
started first: it waits for the end of its standard input, which only its parent holds open, and then ends every process
whose environment bears the parent's mark. It is a script of its own, without the package, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

VARIABLE = "MOBILENETS_RAY_SESSION"
"""Set while Ray is started: all its processes inherit it, and pass it on to those they start."""
_POLL_SECONDS = 0.5
_CALM_SECONDS = 3.0
"""So long nothing new must be found: a process forked by then has shown its environment."""
_LONGEST_SECONDS = 60.0


def main(parent: int, mark: str, scratch: Path) -> None:
    """Wait for the parent's end, then end what bears its mark and remove its scratch folder."""
    orderly = _wait_for(parent)
    end_marked(mark, calm=0.0 if orderly else _CALM_SECONDS)
    if not orderly:
        _remove(scratch, mark)


def end_marked(mark: str, calm: float) -> None:
    """Kill all processes with the mark, until for `calm` seconds there is none."""
    began = last = time.monotonic()
    while time.monotonic() - began < _LONGEST_SECONDS:
        found = marked(mark)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if found:
            last = time.monotonic()
        elif time.monotonic() - last >= calm:
            return
        time.sleep(0.05)


def marked(mark: str) -> list[int]:
    """The processes that inherited the mark; those that have ended and wait to be taken notice of show none."""
    wanted, found = f"{VARIABLE}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _wait_for(parent: int) -> bool:
    """Return when the parent has ended, or asks for an orderly end by a byte; whether it did."""
    while os.getppid() == parent:  # a copy of the pipe may live on in a child that the parent has forked
        if select.select([0], [], [], _POLL_SECONDS)[0]:
            return bool(os.read(0, 1))
    return False


def _remove(scratch: Path, mark: str) -> None:
    """Remove the folder if it is still that session's: the same job may have been started again by now."""
    away = scratch.with_name(f"{scratch.name}~{mark}")
    with contextlib.suppress(OSError):
        if (scratch / VARIABLE).read_text(encoding="utf-8") == mark:
            scratch.rename(away)
            shutil.rmtree(away, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
