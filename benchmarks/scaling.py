"""How much faster two processes train than one: `python benchmarks/scaling.py`.

Regime: CIFAR's size (32x32), a batch of 128 over all processes, float32, channels-last, width 0.5, synthetic images in
memory, the ordinary loop with everything it does. Each way runs in processes of its own under torchrun, in turn, 3
rounds; the first 4 steps are not counted, the median of the next 12 is. One thread a process, and one process with two
threads beside them, as that is what two processes have to beat on one machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median

NETWORKS = ("mobilenet_v2", "mobilenet_v3_small")
WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1)}
BATCH, SIZE, WIDTH, SKIPPED, STEPS, ROUNDS = 128, 32, 0.5, 4, 12, 3


def images_per_second(network: str, threads: int) -> float | None:
    """The main process's median speed over a few steps; nothing from the others."""
    import numpy as np
    import torch

    from mobilenets.data.loader import PreparedImages
    from mobilenets.data.sources import ArraySource, ImageSplit
    from mobilenets.models.registry import create_model
    from mobilenets.preprocessing import Preprocessing
    from mobilenets.progress import Silent, StepReport
    from mobilenets.training.checkpoints import Experiment
    from mobilenets.training.distributed import join_team
    from mobilenets.training.loop import Training
    from mobilenets.training.recipe import Recipe

    class Clock(Silent):
        def __init__(self) -> None:
            self.times: list[float] = []

        def step(self, report: StepReport) -> None:
            self.times.append(time.perf_counter())

    torch.set_num_threads(threads)
    count = BATCH * (SKIPPED + STEPS)
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    split = ImageSplit([ArraySource(str(n), image) for n, image in enumerate(pixels)], np.arange(count) % 10)
    images = PreparedImages(split, Preprocessing(image_size=SIZE), pixels=pixels)
    torch.manual_seed(0)
    model = create_model(network, num_classes=10, width_mult=WIDTH, image_size=SIZE)
    recipe = Recipe(epochs=1, batch_size=BATCH, precision="float32", memory_format="channels_last")
    clock, cpu = Clock(), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder, join_team(cpu) as team:
        Training(
            model,
            images,
            recipe,
            Path(folder),
            experiment=Experiment({}, {}, {}),
            device=cpu,
            progress=clock,
            classes=10,
            team=team,
        ).fit()
        taken = np.diff(clock.times)[SKIPPED - 1 :]
        return BATCH / float(np.median(taken)) if team.is_main else None


def main() -> None:
    from timing import alternate, spread, write

    elastic = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
    os.environ["OMP_NUM_THREADS"] = "1"
    commands = {
        f"{network}, {way}": (*elastic, str(processes), __file__, network, str(threads))
        for network, (way, (processes, threads)) in product(NETWORKS, WAYS.items())
    }
    speeds = alternate(commands, ROUNDS)
    figures = {network: {way: spread(speeds[f"{network}, {way}"]) for way in WAYS} for network in NETWORKS}
    efficiency = {}
    for network in NETWORKS:
        alone, _, together = (speeds[f"{network}, {way}"] for way in WAYS)
        efficiency[network] = median(two / (2 * one) for one, two in zip(alone, together, strict=True))
    regime = f"{SIZE}x{SIZE}, batch {BATCH} over all, width {WIDTH}, {ROUNDS} alternating rounds of {STEPS} steps"
    write("scaling", regime, {"images_per_second": figures, "efficiency": efficiency})


if __name__ == "__main__":
    if len(sys.argv) == 3:
        speed = images_per_second(sys.argv[1], int(sys.argv[2]))
        if speed is not None:
            print(json.dumps(speed), flush=True)
    else:
        main()
