"""Peak memory of answering one image, measured in a fresh process; no PyTorch here.

A process of its own, because memory once used is rarely given back: whatever ran before (training, another network)
would be counted too. Run as `python -m mobilenets.benchmarking.footprint FILE` this module is that process: it loads
the file with ONNX Runtime, answers one image and prints its peak in bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mobilenets.errors import ExportError, MobilenetsError

_KIB, _MIB = 1024, 1024**2
_TIMEOUT_SECONDS = 300


def peak_memory_mb(onnx_file: Path, threads: int = 1) -> float:
    """Peak resident memory (MiB) of a fresh Python process that answers one image from an exported file.

    Python, NumPy and ONNX Runtime are in it (their part is the same for every network): it is what a device needs.

    Raises:
        ExportError: the file is missing or damaged, or the process failed otherwise; the message holds its last line.
    """
    if not onnx_file.is_file():
        raise ExportError(f"{onnx_file} is no file: export the network first")
    command = [sys.executable, "-m", __name__, str(onnx_file), str(threads)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{onnx_file} did not answer one image within {_TIMEOUT_SECONDS} s") from error
    if child.returncode != 0:
        said = child.stderr.strip().splitlines() or [f"it ended with code {child.returncode}"]
        raise ExportError(f"the process measuring the memory of {onnx_file} failed: {said[-1]}")
    return int(child.stdout) / _MIB


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


def _answer_one_image(onnx_file: Path, threads: int) -> None:
    import numpy as np

    from mobilenets.runtime.session import input_shape, open_session, predict_function

    session = open_session(onnx_file, threads)
    predict_function(session)(np.zeros((1, *input_shape(session)), dtype=np.uint8))


def _main(arguments: list[str]) -> int:
    file, threads = arguments
    try:
        _answer_one_image(Path(file), int(threads))
    except MobilenetsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(peak_resident_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
