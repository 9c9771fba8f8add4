"""The versions and the machine a result was measured on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from mobilenets.machine import usable_cores
from mobilenets.training.device import processor_name

PACKAGES = ("mobilenets", "torch", "torchvision", "onnxruntime", "numpy", "pillow")


def environment(device: torch.device) -> dict[str, str]:
    """Versions of what computes, and the machine: enough to know whether two results may be compared."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": str(usable_cores()),
        "trained on": device.type,
    }
