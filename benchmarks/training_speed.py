"""How fast a training step is, and what makes it so: `python benchmarks/training_speed.py`.

Regime: CIFAR's size (32x32), batch 128, AdamW, width 0.5, random images. Every variant runs in a process of its own
(the C library's settings last for a process), in turn, 3 rounds; a process does 1 unmeasured step and 3 measured ones
and reports its median.

    plain          the loop as most people write it: float32, contiguous
    reuse          with freed memory kept by the C library (mobilenets.training.plan)
    channels_last  and in channels-last layout: what `auto` chooses here
    bfloat16       and in bfloat16 autocast
"""

from __future__ import annotations

import sys
import time
from itertools import product
from statistics import median

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
VARIANTS = {
    "plain": ("float32", "contiguous"),
    "reuse": ("float32", "contiguous"),
    "channels_last": ("float32", "channels_last"),
    "bfloat16": ("bfloat16", "channels_last"),
}
BATCH, SIZE, WIDTH, STEPS, ROUNDS = 128, 32, 0.5, 3, 3


def images_per_second(network: str, variant: str) -> float:
    """Median speed of a few training steps in this process."""
    import torch

    from mobilenets.models.registry import create_model
    from mobilenets.training.optimizer import CrossEntropy, build_optimizer
    from mobilenets.training.plan import ComputePlan, keep_freed_memory
    from mobilenets.training.recipe import Recipe

    if variant != "plain":
        keep_freed_memory()
    plan, objective = ComputePlan(*VARIANTS[variant]), CrossEntropy()
    torch.manual_seed(0)
    model = create_model(network, num_classes=10, width_mult=WIDTH, image_size=SIZE)
    model = model.train().to(memory_format=plan.layout)
    optimizer = build_optimizer(model, Recipe())
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=plan.layout)
    labels = torch.randint(0, 10, (BATCH,))
    times = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with plan.autocast(images.device):
            loss, _ = objective(model, images, labels)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return BATCH / median(times[1:])


def main() -> None:
    from timing import alternate, spread, write

    pairs = tuple(product(NETWORKS, VARIANTS))
    commands = {f"{network} {variant}": (__file__, network, variant) for network, variant in pairs}
    speeds = alternate(commands, ROUNDS)
    figures = {
        network: {variant: spread(speeds[f"{network} {variant}"]) for variant in VARIANTS} for network in NETWORKS
    }
    for network in NETWORKS:
        figures[network]["ratio"] = {
            variant: figures[network][variant]["median"] / figures[network]["plain"]["median"] for variant in VARIANTS
        }
    regime = f"{SIZE}x{SIZE}, batch {BATCH}, width {WIDTH}, {ROUNDS} alternating rounds of {STEPS} steps"
    write("training_speed", regime, {"images_per_second": figures})


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(images_per_second(sys.argv[1], sys.argv[2]))
    else:
        main()
