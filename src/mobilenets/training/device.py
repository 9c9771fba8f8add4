"""Where to compute, and the name of the processor."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from mobilenets.errors import DeviceError


def choose_device(name: str | None = None) -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU; or the device named.

    Raises:
        DeviceError: the named device is not there; the message lists those that are.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    present = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    present += ["cuda"] if torch.cuda.is_available() else []
    present += ["mps"] if torch.backends.mps.is_available() else []
    if name not in present:
        raise DeviceError(f"no device {name} here; there is {', '.join(present)}")
    return torch.device(name)


def processor_name() -> str:
    """The processor's model with the units that matter here; Python's own answer is often just the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = [line for line in lines if line.startswith("flags")]
    # Clouds give different processors one name; the matrix units are what decides here.
    special = [flag for flag in ("amx_bf16", "avx512_bf16") if flags and flag in flags[0]]
    return " ".join([*names[:1], *special]) or platform.machine()
