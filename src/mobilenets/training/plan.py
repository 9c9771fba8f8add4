"""How to compute: the number format and memory layout that are fastest for a network on this machine.

Which of float32, channels-last and bfloat16 pays depends on processor, network and batch: bfloat16 is much faster on
one machine and several times slower on another. So nothing is guessed: real training steps are timed on copies of the
network, in turn, and the answer is kept for the next run of the same network on the same machine (which also makes two
such runs bit-identical).

A batch that does not fit into memory is cut into parts. A process alone notes their number in its state. In a team, one
that runs out of memory can't go on, since the others are at another point of the step: it leaves a note for the restart
instead.
"""

from __future__ import annotations

import copy
import ctypes
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from mobilenets.errors import DeviceError, RunError
from mobilenets.files import write_text_atomically
from mobilenets.limits import read_json
from mobilenets.machine import user_cache
from mobilenets.training.optimizer import Objective, build_optimizer, training_mode, verb_of
from mobilenets.training.recipe import Recipe


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


NOTE: Final = "batch_parts.json"


def remember_parts(run: Path, parts: int) -> None:
    """Leave the note.

    Raises:
        RunError: it can't be written.
    """
    write_text_atomically(run / NOTE, json.dumps({"parts": parts}) + "\n")


def remembered_parts(run: Path) -> int:
    """Into how many parts a batch has to be cut as far as is known; 1 where there is no note."""
    try:
        parts = read_json(run / NOTE)["parts"]
    except (OSError, ValueError, LookupError, TypeError):
        return 1  # missing or damaged: running out of memory once more is all it costs
    return parts if isinstance(parts, int) and parts >= 1 else 1


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to reuse large blocks rather than return them; it holds for the rest of the process.

    glibc serves blocks above 32 MiB by mapping fresh pages and unmapping them when freed, so every step of a training
    with large activations has the kernel clear gigabytes of pages again. Kept in the heap, the same blocks are reused;
    `benchmarks/training_speed.py` measures the gain.

    Returns:
        Whether it took effect: not on systems with another C library, where nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    c_library = ctypes.CDLL(None)
    return bool(c_library.mallopt(_M_MMAP_MAX, 0) and c_library.mallopt(_M_TRIM_THRESHOLD, _NEVER))


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


class _TimedSteps:
    """Training steps of a copy of a network under one plan."""

    def __init__(self, plan: ComputePlan, model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        self.plan = plan
        self.model = copy.deepcopy(model).to(memory_format=plan.layout)
        training_mode(self.model, recipe.freeze)
        self.images = images.contiguous(memory_format=plan.layout)
        self.labels = labels
        self.optimizer = build_optimizer(self.model, recipe)

    def step(self, objective: Objective) -> float:
        """Seconds of one step."""
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with self.plan.autocast(self.images.device):
            loss, _ = objective(self.model, self.images, self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        loss.item()  # waits for a GPU
        return time.perf_counter() - start


def allowed_plans(recipe: Recipe, device: torch.device) -> list[ComputePlan]:
    """What the recipe leaves open, from simple to special, so that ties go to the simple one."""
    precisions = [recipe.precision] if recipe.precision != "auto" else ["float32", "bfloat16"]
    layouts = [recipe.memory_format] if recipe.memory_format != "auto" else ["contiguous", "channels_last"]
    if recipe.precision == "auto" and device.type == "mps":
        precisions = ["float32"]  # autocast to bfloat16 needs a recent macOS; not worth a failed start
    plans = [ComputePlan(precision, layout) for precision in precisions for layout in layouts]
    # oneDNN's bfloat16 kernels want channels-last and would convert at every layer: one plan less.
    rarely = ComputePlan("bfloat16", "contiguous")
    return [plan for plan in plans if plan != rarely or recipe.memory_format == "contiguous"]


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
    plans = allowed_plans(recipe, images.device)
    if len(plans) == 1:
        return plans[0], "as the recipe says"
    cache = cache or plan_cache()
    key = _situation(model, images, plans, objective)
    known = _read_cache(cache)
    for plan in plans:
        if known.get(key) == str(plan):
            return plan, "measured here before"
    seconds = measure_plans([_TimedSteps(plan, model, images, labels, recipe) for plan in plans], objective)
    best = plans[0]
    for plan in plans[1:]:
        if seconds[plan] < WORTH_IT * seconds[best]:
            best = plan
    kept = _write_cache(cache, {**known, key: str(best)})
    measured = ", ".join(f"{plan}: {len(images) / seconds[plan]:.0f} images/s" for plan in plans)
    return best, f"measured: {measured}" + ("" if kept else f"; {cache} can't be written to keep this")


def measure_plans(candidates: list[_TimedSteps], objective: Objective) -> dict[ComputePlan, float]:
    """Seconds of the shortest step under each plan, after an unmeasured one, in turn.

    The shortest is what other work on the machine disturbs least.
    """
    for one in candidates:
        one.step(objective)
    rounds = [[one.step(objective) for one in candidates] for _ in range(TIMED_STEPS)]
    return {one.plan: min(times) for one, times in zip(candidates, zip(*rounds, strict=True), strict=True)}


def plan_cache() -> Path:
    """The file in the user's cache folder where measured plans are kept."""
    return user_cache() / "mobilenets" / "compute_plans.json"


def _situation(model: nn.Module, images: Tensor, plans: list[ComputePlan], objective: Objective) -> str:
    """All that an answer depends on, as one key."""
    device = images.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    weights = sum(parameter.numel() for parameter in model.parameters())
    frozen = weights - sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    threads, shape = torch.get_num_threads(), "x".join(map(str, images.shape))
    network = f"{type(model).__name__} of {weights}" + (f", {frozen} frozen" if frozen else "")
    if (verb := verb_of(objective)) != "training":  # a teacher's share of the step may prefer another plan
        network = f"{verb} {network}"
    return " | ".join([name, f"{threads} threads", f"torch {torch.__version__}", network, shape, *map(str, plans)])


def _read_cache(path: Path) -> dict[str, object]:
    try:
        known = read_json(path)
    except (OSError, ValueError):
        return {}  # missing or damaged: measuring again is all it costs
    return known if isinstance(known, dict) else {}


def _write_cache(path: Path, known: dict[str, object]) -> bool:
    try:
        write_text_atomically(path, json.dumps(known, indent=1) + "\n")
    except RunError:
        return False
    return True
