"""Whether balancing helps classes of unequal size: `python benchmarks/imbalance.py`.

Regime: digits whose odd ones are rare, strongly (6 images against 60) and mildly (30 against 60); MobileNetV3-Small at
width 0.25 and 16 pixels by the `quick` recipe with 12 epochs; `--balance` none, weights and sampling with 5 seeds each,
in turn. Scored on the test images as they are, which have all digits about equally often: recall over all classes, over
the rare and over the others.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

from mobilenets.benchmarking.latency import round_order
from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.training.recipe import load_recipe
from mobilenets.workflows.train import train

WAYS = ("none", "weights", "sampling")
RARE = {"strong": 6, "mild": 30}
COMMON, SEEDS = 60, 5


@dataclass(frozen=True)
class Outcome:
    """Mean recall in percent: over all classes, the rare ones, the others."""

    every: float
    rare: float
    common: float


def uneven(dataset: Dataset, rare: int) -> Dataset:
    """The first images of each digit: few of the odd ones, more of the even."""
    labels = dataset.train.labels
    kept = [np.flatnonzero(labels == digit)[: rare if digit % 2 else COMMON] for digit in range(10)]
    return replace(dataset, train=dataset.train.take(np.sort(np.concatenate(kept))))


def measure(dataset: Dataset, balance: str, seed: int) -> Outcome:
    recipe = load_recipe(
        "quick", epochs=12, balance=balance, seed=seed, precision="float32", memory_format="channels_last"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = train(
            "mobilenet_v3_small",
            dataset,
            Path(folder) / "run",
            recipe=recipe,
            width_mult=0.25,
            image_size=16,
            device="cpu",
        )
    recalls = [one.recall for one in done.test.classes]
    return Outcome(mean(recalls), mean(recalls[1::2]), mean(recalls[::2]))


def main() -> None:
    from timing import spread, write

    digits = load_dataset("digits")
    figures = {}
    for kind, rare in RARE.items():
        dataset = uneven(digits, rare)
        found: dict[str, list[Outcome]] = {way: [] for way in WAYS}
        for seed in range(SEEDS):
            for way in round_order(WAYS, seed):
                found[way].append(measure(dataset, way, seed))
                print(f"{kind}, seed {seed}, {way}: {found[way][-1]}", flush=True)
        figures[kind] = {
            way: {name: spread([getattr(one, name) for one in outcomes]) for name in ("every", "rare", "common")}
            for way, outcomes in found.items()
        }
    regime = (
        f"digits, odd ones rare ({RARE['strong']} or {RARE['mild']} training images against {COMMON}); "
        f"mobilenet_v3_small x0.25 at 16 px, 12 epochs, {SEEDS} seeds; mean recall of classes in percent"
    )
    write("imbalance", regime, {"images": {**RARE, "common": COMMON}, "seeds": SEEDS, "recall": figures})


if __name__ == "__main__":
    main()
