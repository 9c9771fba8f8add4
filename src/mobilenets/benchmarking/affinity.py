"""Which cores a process may run on, so that a candidate of two threads has two cores and no more."""

from __future__ import annotations

import os
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
# Arm's kernels tell a capacity, others the highest clock rate.
_SPEEDS = ("/sys/devices/system/cpu/cpu{}/cpu_capacity", "/sys/devices/system/cpu/cpu{}/cpufreq/cpuinfo_max_freq")


def pin(threads: int) -> tuple[int, ...]:
    """Limit this process to as many cores as it has threads; call it before any runtime starts its threads.

    Where the system has no such setting (macOS, Windows), the runtimes' own number of threads is all that holds.

    Returns:
        The cores, empty where nothing was set.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    cores = spread(sorted(os.sched_getaffinity(0)))[:threads]
    os.sched_setaffinity(0, cores)
    return tuple(cores)


def spread(cores: list[int]) -> list[int]:
    """Order logical cores by how well they do alone: one of each physical core first, of those the fastest first.

    Two halves of one physical core are no two cores, and many phones and laptops mix fast cores with slow ones.
    """
    seen: dict[str, int] = {}
    ranked = []
    for core in cores:
        siblings = _text(_SIBLINGS, core) or str(core)
        seen[siblings] = seen.get(siblings, -1) + 1
        ranked.append((seen[siblings], -_speed(core), core))
    return [core for *_, core in sorted(ranked)]


def _speed(core: int) -> int:
    """The kernel's measure of a core's speed, 0 where it has none."""
    return next((int(text) for place in _SPEEDS if (text := _text(place, core)).isdigit()), 0)


def _text(place: str, core: int) -> str:
    try:
        return Path(place.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return ""
