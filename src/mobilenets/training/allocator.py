"""Letting the C library keep freed memory between training steps.

glibc serves blocks above 32 MiB by mapping fresh pages and unmapping them when freed, so every step of a training with
large activations has the kernel clear gigabytes of pages again. Kept in the heap instead, the same blocks are reused.
`benchmarks/training_speed.py` measures what that is worth.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to reuse large blocks rather than return them; it holds for the rest of the process.

    Returns whether it took effect: not on systems with another C library, where nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    c_library = ctypes.CDLL(None)
    return bool(c_library.mallopt(_M_MMAP_MAX, 0) and c_library.mallopt(_M_TRIM_THRESHOLD, _NEVER))
