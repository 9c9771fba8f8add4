"""Whether a teacher helps a smaller network: `python benchmarks/distillation.py --data DATA --teacher RUN`.

Regime: MobileNetV3-Small at width 0.25 on a stratified subset of the training images, the same recipe with and without
the teacher, alternating within each seed, scored on all test images. The difference of top-1 is tested as everywhere
here, over images and seeds. Temperature and the teacher's share are the defaults of `mobilenets train --teacher`. The
teacher may have seen training images that the students do not: that is the case where one has a good network and wants
a smaller one quickly. Cost is in processor seconds, which other work on the machine disturbs little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from mobilenets.benchmarking.latency import round_order
from mobilenets.data.datasets import load_dataset, natural_image_size
from mobilenets.data.splits import stratified_sample
from mobilenets.evaluation.predictions import Predictions, correct_answers
from mobilenets.evaluation.significance import paired_test, top1_interval
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.recipe import Recipe
from mobilenets.training.run import train_and_score
from mobilenets.training.scoring import PREDICTIONS, Splits, prepare_splits, torch_predict
from mobilenets.training.teacher import Teacher, load_teacher

WAYS = ("labels only", "with teacher")


@dataclass(frozen=True)
class Outcome:
    """One student: accuracy in percent, processor seconds to train and score, which answers were right."""

    top1: float
    seconds: float
    correct: np.ndarray


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--teacher", required=True, help="a run folder")
    parser.add_argument("--student", default="mobilenet_v3_small")
    parser.add_argument("--width-mult", type=float, default=0.25)
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-images", type=int, default=None, help="all by default")
    parser.add_argument("--name", default="distillation", help="of the result file")
    return parser.parse_args()


def learn(network: dict[str, Any], splits: Splits, recipe: Recipe, teacher: Teacher | None) -> Outcome:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        done = train_and_score(
            network,
            splits,
            recipe,
            run,
            resume=False,
            device=torch.device("cpu"),
            progress=Silent(),
            teacher=teacher,
        )
        correct = Predictions.load(run / PREDICTIONS).correct
    return Outcome(done.test.top1, time.process_time() - began, correct)


def teacher_top1(teacher: Teacher, splits: Splits) -> float:
    """Percent of the test images that the teacher gets right, on the student's inputs."""
    predict = torch_predict(teacher.network, splits.preprocessing, torch.device("cpu"), torch.channels_last)
    right = [correct_answers(labels, predict(images)) for images, labels in splits.test.seen().batches(250)]
    return 100 * float(np.concatenate(right).mean())


def main() -> None:
    from timing import spread, write

    asked, began = options(), time.monotonic()
    dataset = load_dataset(asked.data)
    train = dataset.train.take(stratified_sample(dataset.train.labels, asked.images, 0))
    test = dataset.test
    if asked.test_images is not None:
        test = test.take(stratified_sample(test.labels, asked.test_images, 0))
    size = natural_image_size(dataset)
    splits = prepare_splits(
        replace(dataset, train=train, test=test), Preprocessing(size), skip_bad=False, progress=Silent()
    )
    teacher = load_teacher(asked.teacher, dataset.classes, splits.preprocessing, network="", progress=Silent())
    network = {
        "name": asked.student,
        "num_classes": len(dataset.classes),
        "width_mult": asked.width_mult,
        "image_size": size,
    }
    # Fixed ways to compute: measured ones might differ between the two.
    recipe = Recipe(
        epochs=asked.epochs,
        batch_size=64,
        learning_rate=4e-3,
        warmup_epochs=0.5,
        decay_norm_and_bias=False,
        precision="float32",
        memory_format="channels_last",
    )
    outcomes: dict[str, list[Outcome]] = {way: [] for way in WAYS}
    for seed in range(asked.seeds):
        for way in round_order(WAYS, seed):
            helper = teacher if way == "with teacher" else None
            outcomes[way].append(learn(network, splits, replace(recipe, seed=seed), helper))
            latest = outcomes[way][-1]
            print(f"seed {seed}, {way}: {latest.top1:.2f} %, {latest.seconds:.0f} s", flush=True)
    correct = {way: np.stack([one.correct for one in found]) for way, found in outcomes.items()}
    plain, taught = (outcomes[way] for way in WAYS)
    verdict = paired_test(WAYS[1], WAYS[0], correct[WAYS[1]], correct[WAYS[0]])
    figures = {
        "teacher": {"network": teacher.identity["network"], "top1": teacher_top1(teacher, splits)},
        "top1": {way: [one.top1 for one in outcomes[way]] for way in WAYS},
        "mean_top1": {way: asdict(top1_interval(right)) for way, right in correct.items()},
        "difference": asdict(verdict),
        "helps": verdict.differs and verdict.difference > 0,
        "processor_seconds": {way: spread([one.seconds for one in outcomes[way]]) for way in WAYS},
        "time_ratio": mean(two.seconds / one.seconds for one, two in zip(plain, taught, strict=True)),
        "minutes": (time.monotonic() - began) / 60,
    }
    regime = (
        f"{asked.student} x{asked.width_mult:g} at {size} px, {len(train)} training and {len(test)} test images of "
        f"{dataset.name}, {asked.epochs} epochs, {asked.seeds} seeds each, alternating; test accuracy in percent"
    )
    write(asked.name, regime, figures)


if __name__ == "__main__":
    main()
