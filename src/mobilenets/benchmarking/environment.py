"""The machine and the versions a benchmark ran on: what a reader needs to compare two of them; no PyTorch here."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mobilenets.machine import physical_memory, usable_cores

PACKAGES = ("mobilenets", "numpy", "onnxruntime", "openvino", "ai-edge-litert", "executorch", "torch")
# Units that decide how fast convolutions run: x86 vectors and matrices, 8-bit and bfloat16 products, Arm's likewise.
UNITS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
)
_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_GIB = 1024**3


def environment() -> dict[str, str]:
    """Describe processor, cores, load and versions; what the system does not tell is left out."""
    name, units = processor()
    found = {
        "processor": name,
        "units": " ".join(units),
        "cores": str(usable_cores()),
        "memory": "" if (memory := physical_memory()) is None else f"{memory / _GIB:.1f} GiB",
        "governor": _text(_GOVERNOR).strip(),
        "load at start": "" if (load := busy_cores()) is None else f"{load:.2f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }
    return {key: value for key, value in found.items() if value}


def processor() -> tuple[str, tuple[str, ...]]:
    """Name of the processor, and those of `UNITS` it has (empty where the system does not list them)."""
    fields: dict[str, str] = {}
    for line in _text(_CPUINFO).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return name, tuple(unit for unit in UNITS if unit in flags)


def busy_cores(seconds: float = 0.5) -> float | None:
    """Cores other programs keep busy while this one waits so long; None where the system does not tell.

    Not the load average: for minutes it counts what this very program did before, such as training or quantizing.
    """
    before = _processor_times()
    time.sleep(seconds)
    after = _processor_times()
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (os.cpu_count() or 1) * (after[0] - before[0]) / (after[1] - before[1])


def _processor_times() -> tuple[int, int] | None:
    """Ticks all cores were busy since the system started, and all ticks (Linux, proc(5): /proc/stat)."""
    line = _text(_STAT).partition("\n")[0].split()
    if len(line) < 6 or line[0] != "cpu":
        return None
    ticks = [int(field) for field in line[1:9]]  # what follows, time of guests, is in the first two already
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
