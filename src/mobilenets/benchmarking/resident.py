"""The most memory this process has held, as each system tells it; no PyTorch here."""

from __future__ import annotations

import sys
from pathlib import Path

from mobilenets.errors import MobilenetsError

_KIB = 1024


def peak_resident_bytes() -> int:
    """The most physical memory this process has held so far.

    Linux's `VmHWM` starts anew with the program. `getrusage` there does not: a child inherits the peak of the process
    that started it, so that under a training process every small network would seem to need a gigabyte.
    """
    return _peak_resident_bytes()


if sys.platform == "win32":

    def _peak_resident_bytes() -> int:
        import ctypes
        from ctypes import wintypes

        class Counters(ctypes.Structure):
            """PROCESS_MEMORY_COUNTERS of psapi.h."""

            _fields_ = (
                ("cb", wintypes.DWORD),
                ("PageFaultCount", wintypes.DWORD),
                ("PeakWorkingSetSize", ctypes.c_size_t),
                ("WorkingSetSize", ctypes.c_size_t),
                ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPagedPoolUsage", ctypes.c_size_t),
                ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
                ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
                ("PagefileUsage", ctypes.c_size_t),
                ("PeakPagefileUsage", ctypes.c_size_t),
            )

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.GetCurrentProcess.restype = wintypes.HANDLE
        kernel32.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
        counters = Counters(cb=ctypes.sizeof(Counters))
        if not kernel32.K32GetProcessMemoryInfo(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
            raise MobilenetsError(f"Windows does not tell this process's memory (error {ctypes.get_last_error()})")
        return int(counters.PeakWorkingSetSize)

else:

    def _peak_resident_bytes() -> int:
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * _KIB
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KIB
