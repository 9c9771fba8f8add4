"""Whether `strong` aims higher than `article`: `python benchmarks/recipes.py --data DATA --out RUNS`.

Regime: one network on a stratified subset of the training images, the same epochs under each recipe, alternating within
each seed. `strong` is also trained without each of its main ingredients. The difference of top-1 to `article` (of the
incomplete forms: to `strong`) is tested as everywhere here, over images and seeds.

Recipes are tuned with `--score held-out`, on training images that are not trained on; the result file is written from
the test images, which are read when nothing is left to choose. The runs stay in RUNS: the same command again goes on
where it was stopped, and with more `--seeds` trains only those that are not there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilenets.benchmarking.latency import round_order
from mobilenets.data.datasets import Dataset, load_dataset, natural_image_size
from mobilenets.data.splits import stratified_sample
from mobilenets.evaluation.predictions import Predictions
from mobilenets.evaluation.significance import paired_test, top1_interval
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.checkpoints import has_state
from mobilenets.training.recipe import load_recipe
from mobilenets.training.run import train_and_score
from mobilenets.training.scoring import PREDICTIONS, Splits, prepare_splits

WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "article": ("article", {}),
    "strong": ("strong", {}),
    "strong without averaging": ("strong", {"ema_decay": None}),
    "strong with MixUp and CutMix": ("strong", {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "mix_probability": 0.5}),
    "strong without TrivialAugment and erasing": ("strong", {"augment": "none", "erasing": 0.0}),
}
"""What is compared: a recipe and changes to it."""


@dataclass(frozen=True)
class Outcome:
    """One training: accuracy in percent, seconds an epoch, and which answers were right."""

    top1: float
    seconds: float
    correct: np.ndarray


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--model", default="mobilenet_v3_small")
    parser.add_argument("--width-mult", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--score", choices=("test", "held-out"), default="test")
    parser.add_argument("--change", nargs="*", default=[], metavar="FIELD=VALUE", help="of strong, in timed runs")
    parser.add_argument("--name", default="recipes", help="of the result file")
    return parser.parse_args()


def subset(dataset: Dataset, images: int, score: str) -> Dataset:
    """So many training images, and the test images or as many other training images as are trained on."""
    chosen = stratified_sample(dataset.train.labels, images, 0)
    if score == "test":
        return replace(dataset, train=dataset.train.take(chosen))
    rest = np.setdiff1d(np.arange(len(dataset.train)), chosen)
    held_out = rest[stratified_sample(dataset.train.labels[rest], images, 1)]
    return replace(dataset, train=dataset.train.take(chosen), test=dataset.train.take(held_out))


def learn(way: str, seed: int, asked: argparse.Namespace, splits: Splits, tried: Mapping[str, Any]) -> Outcome:
    name, changes = WAYS[way]
    # A fixed way to compute: measured ones might differ between the recipes.
    fixed = {"epochs": asked.epochs, "seed": seed, "precision": "float32", "memory_format": "channels_last"}
    recipe = load_recipe(name, **fixed, **changes, **(tried if name == "strong" else {}))
    run = asked.out / f"{way.replace(' ', '-')}-seed{seed}"
    network = {
        "name": asked.model,
        "num_classes": len(splits.dataset.classes),
        "width_mult": asked.width_mult,
        "image_size": splits.preprocessing.image_size,
    }
    done = train_and_score(
        network, splits, recipe, run, resume=has_state(run), device=torch.device("cpu"), progress=Silent()
    )
    return Outcome(done.test.top1, done.seconds_per_epoch, Predictions.load(run / PREDICTIONS).correct)


def main() -> None:
    from timing import spread, write

    asked, began = options(), time.monotonic()
    dataset = subset(load_dataset(asked.data), asked.images, asked.score)
    preprocessing = Preprocessing(natural_image_size(dataset))
    splits = prepare_splits(dataset, preprocessing, skip_bad=False, progress=Silent())
    tried = dict(_field(change) for change in asked.change)
    outcomes: dict[str, list[Outcome]] = {way: [] for way in asked.ways}
    for seed in range(asked.seeds):
        for way in round_order(tuple(asked.ways), seed):
            outcomes[way].append(learn(way, seed, asked, splits, tried))
            latest = outcomes[way][-1]
            print(f"seed {seed}, {way}: {latest.top1:.2f} %, {latest.seconds:.1f} s an epoch", flush=True)
    if asked.score != "test" or not {"article", "strong"} <= set(asked.ways):
        return  # a timed run
    correct = {way: np.stack([one.correct for one in found]) for way, found in outcomes.items()}
    tests = {
        way: paired_test(way, base, correct[way], correct[base])
        for way in asked.ways
        if (base := "article" if way == "strong" else "strong") and way != "article"
    }
    figures = {
        "recipes": {way: load_recipe(WAYS[way][0], **WAYS[way][1]).to_dict() for way in asked.ways},
        "epochs": asked.epochs,
        "top1": {way: [one.top1 for one in found] for way, found in outcomes.items()},
        "mean_top1": {way: asdict(top1_interval(right)) for way, right in correct.items()},
        "differences": {way: asdict(test) for way, test in tests.items()},
        "helps": tests["strong"].differs and tests["strong"].difference > 0,
        "seconds_per_epoch": {way: spread([one.seconds for one in found]) for way, found in outcomes.items()},
        "minutes": (time.monotonic() - began) / 60,
    }
    regime = (
        f"{asked.model} x{asked.width_mult:g} at {preprocessing.image_size} px, {len(splits.train)} training and "
        f"{len(splits.test)} test images of {dataset.name}, {asked.epochs} epochs, {asked.seeds} seeds each, "
        "alternating; test accuracy in percent"
    )
    write(asked.name, regime, figures)


def _field(change: str) -> tuple[str, Any]:
    """A field and its value in TOML's notation; None where there is none."""
    import tomllib

    name, _, value = change.partition("=")
    return name, None if value in ("", "None") else tomllib.loads(f"value = {value}")["value"]


if __name__ == "__main__":
    main()
