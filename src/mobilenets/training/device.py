"""Where and how to compute: the device, and the number format and memory layout that are fastest on it.

Which of float32, channels-last and bfloat16 pays depends on processor, network and batch: on a CPU with matrix units
bfloat16 is much faster, on one without it is several times slower. So nothing is guessed: real training steps are
timed on a copy of the network, and the answer is kept for the next run of the same network on the same machine
(which also makes two such runs bit-identical).
"""

from __future__ import annotations

import copy
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mobilenets.errors import DeviceError, RunError
from mobilenets.files import write_text_atomically
from mobilenets.training.objectives import Objective
from mobilenets.training.optimizer import build_optimizer
from mobilenets.training.recipe import Recipe

WARM_UP_STEPS = 1
TIMED_STEPS = 3
WORTH_IT = 0.95  # a plan replaces a simpler one only if its step takes less than this share of the time


@dataclass(frozen=True)
class ComputePlan:
    """Number format of activations in training, and memory layout of images and filters."""

    precision: str
    memory_format: str

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}"

    @property
    def layout(self) -> torch.memory_format:
        """The layout as torch names it."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        """A context in which `device` computes in this plan's precision."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


def choose_device(name: str | None = None) -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU; or the device named.

    Raises:
        DeviceError: the named device is not there.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(name.split(":")[0], False):
        there = ", ".join(key for key, value in present.items() if value)
        raise DeviceError(f"no device {name} here; there is {there}")
    return torch.device(name)


def choose_plan(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, objective: Objective, cache: Path | None = None
) -> tuple[ComputePlan, str]:
    """The fastest plan the recipe allows for training `model` on batches like this one, and how that is known.

    Args:
        model: the network, on its device; it is not changed.
        images: a batch [B, C, H, W] float32 on the same device.
        labels: its labels [B].
        recipe: its precision and memory format fix the plan unless they are `auto`.
        objective: what a step minimises.
        cache: file of earlier answers; None uses `plan_cache()`.
    """
    plans = _allowed_plans(recipe, images.device)
    if len(plans) == 1:
        return plans[0], "as the recipe says"
    cache = cache or plan_cache()
    key = _situation(model, images, plans)
    known = _read_cache(cache)
    if key in known:
        return ComputePlan(**known[key]), "measured here before"
    seconds = {plan: _seconds_per_step(model, images, labels, recipe, objective, plan) for plan in plans}
    best = plans[0]
    for plan in plans[1:]:
        if seconds[plan] < WORTH_IT * seconds[best]:
            best = plan
    _write_cache(cache, {**known, key: asdict(best)})
    measured = ", ".join(f"{plan}: {len(images) / seconds[plan]:.0f} images/s" for plan in plans)
    return best, f"measured: {measured}"


def plan_cache() -> Path:
    """Where measured plans are kept: under $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilenets" / "compute_plans.json"


def _allowed_plans(recipe: Recipe, device: torch.device) -> list[ComputePlan]:
    """Candidates from simple to special, so that ties go to the simple one."""
    precisions = [recipe.precision] if recipe.precision != "auto" else ["float32", "bfloat16"]
    layouts = [recipe.memory_format] if recipe.memory_format != "auto" else ["contiguous", "channels_last"]
    if recipe.precision == "auto" and device.type == "mps":
        precisions = ["float32"]  # autocast to bfloat16 needs macOS 14; not worth a failed start
    plans = [ComputePlan(precision, layout) for precision in precisions for layout in layouts]
    # bfloat16 without channels-last was never the fastest where it was measured: one trial less.
    rarely = ComputePlan("bfloat16", "contiguous")
    return [plan for plan in plans if plan != rarely or recipe.memory_format == "contiguous"]


def _seconds_per_step(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, objective: Objective, plan: ComputePlan
) -> float:
    """Shortest of a few real training steps on a copy; the shortest is what a busy machine disturbs least."""
    trial = copy.deepcopy(model).train().to(memory_format=plan.layout)
    optimizer = build_optimizer(trial, recipe)
    images = images.contiguous(memory_format=plan.layout)
    times = []
    for _ in range(WARM_UP_STEPS + TIMED_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with plan.autocast(images.device):
            loss, _ = objective(trial, images, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return min(times[WARM_UP_STEPS:])


def _situation(model: nn.Module, images: Tensor, plans: list[ComputePlan]) -> str:
    """All that an answer depends on, as one key."""
    device = images.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    shapes = sum(parameter.numel() for parameter in model.parameters())
    return " | ".join(
        [
            name,
            f"{torch.get_num_threads()} threads",
            f"torch {torch.__version__}",
            f"{type(model).__name__} {shapes}",
            "x".join(map(str, images.shape)),
            *map(str, plans),
        ]
    )


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


def _read_cache(path: Path) -> dict[str, dict[str, str]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # missing or damaged: measuring again is all it costs
    return known if isinstance(known, dict) else {}


def _write_cache(path: Path, known: dict[str, dict[str, str]]) -> None:
    try:
        write_text_atomically(path, json.dumps(known, indent=1) + "\n")
    except RunError:
        return  # no home folder to write to: measuring again is all it costs
