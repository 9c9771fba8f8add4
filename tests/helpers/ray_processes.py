"""What tests with Ray share: whether it is there, and its processes among those of the machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from mobilenets.runtime.bulk.session import scratch_folder

# Not by importing it: what it says is fixed when it is imported first.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[cluster]'")


def processes_of(job: Path) -> list[int]:
    """All that Ray has started for a job, workers excepted."""
    name = scratch_folder(job).name
    return [pid for pid, command in _commands().items() if name in command]


def workers_of(job: Path) -> list[int]:
    """The processes with the exported file loaded."""
    masters = set(processes_of(job))
    return [
        pid for pid, command in _commands().items() if command.startswith("ray::MapWorker") and _parent(pid) in masters
    ]


def _commands() -> dict[int, str]:
    return {int(process.name): text for process in Path("/proc").glob("[0-9]*") if (text := _read(process / "cmdline"))}


def _parent(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""
