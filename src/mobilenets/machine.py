"""What this process may use of the machine: cores, memory, and a place for files that can be made anew."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may run on, which in a container are often fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Bytes of memory in the machine, or None where the system doesn't say.

    Not the free ones: systems fill what is free with copies of files, which they give back when asked for memory.
    """
    try:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems not these names
        return None
    return pages * page_bytes if pages > 0 and page_bytes > 0 else None


def usable_memory() -> int | None:
    """Bytes of memory the processes here may use together, or None where the system doesn't say.

    The machine's, or less where they are kept in a control group, as containers and batch schedulers do.
    """
    known = [limit for limit in (physical_memory(), cgroup_memory_limit()) if limit is not None]
    return min(known, default=None)


def local_processes() -> int:
    """How many processes of one training share this machine: torchrun says so."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(count)) if count.isdecimal() else 1


def cgroup_memory_limit(root: Path = Path("/")) -> int | None:
    """The least memory, in bytes, that a control group (v1 or v2) of this process or one above it allows.

    None where there is none, as outside of Linux. `root` is what `/proc` and `/sys` are looked for in.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                limits += _limits(root / mount, path, ("memory.max", "memory.high"))
        elif "memory" in controllers.split(","):
            limits += _limits(root / "sys/fs/cgroup/memory", path, ("memory.limit_in_bytes",))
    return min(limits, default=None)


def _limits(mount: Path, path: str, files: tuple[str, ...]) -> list[int]:
    """What the group and all above it say, up to the mount: a container's own group is often mounted at the top."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # a group outside of what this process sees
        parts = []
    found = []
    for depth in range(len(parts) + 1):
        for name in files:
            try:
                said = mount.joinpath(*parts[:depth], name).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                continue
            if said.isdecimal():  # not `max`
                found.append(int(said))
    return found


def user_cache() -> Path:
    """Return the user's cache folder by the system's convention; it may not exist yet.

    `$XDG_CACHE_HOME` or `~/.cache`, on Windows `%LOCALAPPDATA%`, on macOS `~/Library/Caches`; the temporary folder for
    a user who has no home, as in some containers.
    """
    try:
        if sys.platform == "win32":
            return _folder_named_by("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        return _folder_named_by("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # how `Path.home` says there is none
        return Path(tempfile.gettempdir())


def _folder_named_by(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named) if named else None


def lock_across_forks() -> threading.Lock:
    """A lock that is free in a forked process: forks wait until it is, for the thread that held it is not there."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
