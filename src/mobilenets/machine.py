"""What this process may use of the machine: cores, memory, and a place for files that can be made anew."""

from __future__ import annotations

import os
import sys
import tempfile
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
