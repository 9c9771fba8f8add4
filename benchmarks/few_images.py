"""What few images give: `python benchmarks/few_images.py --data DATA --weights FILE.tflite --work DIR`.

Regime: MobileNetV2 on 10, 50 and 500 training images a class, drawn evenly by a seed, in three ways. `head-only` fits a
head to the features of Google's weights, the images enlarged to the 224 pixels these were made for. `fine-tuned` trains
all from the same weights by the `finetune` recipe at 96 pixels. `from scratch` is the network without weights
at the images' own 32 pixels. Epochs are cut so that every training takes minutes; they stand in the result. Accuracy is
that of all test images, for `fine-tuned` of 1,000 of them drawn evenly. Cost is in processor seconds, which other work
on the machine disturbs little: reading the images, features and training are in, scoring is not. What is done is kept
in the result file and in DIR: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.splits import stratified_sample
from mobilenets.evaluation.predictions import Predictions
from mobilenets.evaluation.significance import top1_interval
from mobilenets.progress import EpochPoint, Silent
from mobilenets.training.checkpoints import STATE
from mobilenets.training.scoring import PREDICTIONS
from mobilenets.workflows.train import train

RESULT = "few_images"
TUNED_TEST = 1_000


@dataclass(frozen=True)
class Cell:
    """One training: which way, how many images a class, which draw of them, how many epochs at which size."""

    way: str
    per_class: int
    draw: int
    epochs: int
    image_size: int

    @property
    def folder(self) -> str:
        return f"{self.way.replace(' ', '-')}-{self.per_class}-draw{self.draw}"


class Watch(Silent):
    """Notes the seconds until the last epoch was done: reading images and computing features are in, scoring is not."""

    def __init__(self) -> None:
        self.began, self.began_at = time.process_time(), time.monotonic()
        self.trained = self.elapsed = 0.0

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        self.trained, self.elapsed = time.process_time() - self.began, time.monotonic() - self.began_at


def cells(draws: int) -> list[Cell]:
    """All trainings, from few images to many, the first draw of every kind before any second."""
    epochs = {10: 20, 50: 10, 500: 2}
    found = []
    for count in (10, 50, 500):
        found.append(Cell("head-only", count, 0, 1, 224))
        found.append(Cell("fine-tuned", count, 0, epochs[count], 96))
        found.append(Cell("from scratch", count, 0, epochs[count], 32))
    found += [Cell("head-only", count, draw, 1, 224) for draw in range(1, draws) for count in (10, 50)]
    return found


def drawn(dataset: Dataset, cell: Cell) -> Dataset:
    """The data set with this cell's training and test images."""
    count = cell.per_class * len(dataset.classes)
    train_images = dataset.train.take(stratified_sample(dataset.train.labels, count, cell.draw))
    test = dataset.test
    if cell.way == "fine-tuned":
        test = test.take(stratified_sample(test.labels, TUNED_TEST, 0))
    return replace(dataset, train=train_images, test=test)


def measure(cell: Cell, dataset: Dataset, weights: Path, work: Path) -> dict[str, Any]:
    """Train one, or go on with it."""
    run = work / cell.folder
    ways: dict[str, dict[str, Any]] = {
        "head-only": {"weights": weights, "head_only": True, "seed": cell.draw},
        "fine-tuned": {"weights": weights, "recipe": "finetune", "epochs": cell.epochs, "seed": cell.draw},
        "from scratch": {
            "recipe": "article",
            "epochs": cell.epochs,
            "batch_size": 32,
            "learning_rate": 3e-3,
            "warmup_epochs": 1.0,
            "seed": cell.draw,
        },
    }
    watch = Watch()
    done = train(
        "mobilenet_v2",
        drawn(dataset, cell),
        run,
        image_size=cell.image_size,
        resume=(run / STATE).exists(),
        device="cpu",
        progress=watch,
        **ways[cell.way],
    )
    correct = Predictions.load(run / PREDICTIONS).correct
    return {
        **asdict(cell),
        "top1": asdict(top1_interval(correct[np.newaxis])),
        "test_images": done.test.count,
        "processor_seconds": watch.trained,
        "elapsed_seconds": watch.elapsed,
    }


def main() -> None:
    from timing import RESULTS, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--draws", type=int, default=3, help="of head-only with 10 and 50 images a class")
    asked = parser.parse_args()
    dataset = load_dataset(asked.data)
    path = RESULTS / f"{RESULT}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    known = {(row["way"], row["per_class"], row["draw"], row["epochs"], row["image_size"]) for row in rows}
    for cell in cells(asked.draws):
        if (cell.way, cell.per_class, cell.draw, cell.epochs, cell.image_size) in known:
            continue
        rows.append(measure(cell, dataset, asked.weights, asked.work))
        row = rows[-1]
        print(
            f"{cell.folder}: {row['top1']['mean']:.2f} %, {row['processor_seconds']:.0f} processor seconds", flush=True
        )
        regime = (
            f"mobilenet_v2 on few images a class of {dataset.name}, weights {asked.weights.name}; head-only at 224 px, "
            "fine-tuned at 96, from scratch at 32; test accuracy in percent, processor seconds until trained"
        )
        write(RESULT, regime, {"rows": rows})


if __name__ == "__main__":
    main()
