"""Balancing by the loop itself: it resumes exactly, weights add up over parts of a batch, and a rare class gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import prepare
from mobilenets.errors import TrainingInterruptedError
from mobilenets.evaluation.predictions import evaluate_predictions
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.inputs import balanced
from mobilenets.training.loop import Training
from mobilenets.training.optimizer import CrossEntropy, cross_entropy
from mobilenets.training.recipe import Recipe
from mobilenets.training.scoring import torch_predict
from mobilenets.training.teacher import Distillation
from mobilenets.workflows.train import train

from .conftest import QUICK, InterruptAt

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [-1.0, 0.3, 0.2], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 2, 1, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.5])


def test_each_image_counts_by_its_class() -> None:
    loss, _ = CrossEntropy(0.0, WEIGHTS)(nn.Identity(), LOGITS, LABELS)
    logs = LOGITS.log_softmax(dim=1)
    by_hand = -sum(WEIGHTS[label] * row[label] for row, label in zip(logs, LABELS, strict=True)) / 4
    assert loss.item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_targets_weigh_as_the_labels_they_stand_for(smoothing: float) -> None:
    soft = nn.functional.one_hot(LABELS, 3).float()
    by_labels = cross_entropy(LOGITS, LABELS, smoothing, WEIGHTS)
    assert cross_entropy(LOGITS, soft, smoothing, WEIGHTS).item() == pytest.approx(by_labels.item())
    mixed = 0.3 * soft + 0.7 * soft.roll(1, dims=0)
    parts = [cross_entropy(LOGITS, one, smoothing, WEIGHTS).item() for one in (soft, soft.roll(1, dims=0))]
    assert cross_entropy(LOGITS, mixed, smoothing, WEIGHTS).item() == pytest.approx(0.3 * parts[0] + 0.7 * parts[1])


def test_equal_weights_are_none_and_parts_of_a_batch_add_up() -> None:
    assert cross_entropy(LOGITS, LABELS, 0.1, torch.ones(3)).item() == pytest.approx(
        cross_entropy(LOGITS, LABELS, 0.1).item()
    )
    halves = [cross_entropy(LOGITS[rows], LABELS[rows], 0.1, WEIGHTS) for rows in (slice(0, 2), slice(2, 4))]
    assert (sum(halves) / 2).item() == pytest.approx(cross_entropy(LOGITS, LABELS, 0.1, WEIGHTS).item())


def test_a_teacher_weighs_the_labels_part_alone() -> None:
    plain, _ = Distillation(nn.Identity(), 2.0, 0.25)(nn.Identity(), LOGITS, LABELS)
    weighed, _ = Distillation(nn.Identity(), 2.0, 0.25, 0.0, WEIGHTS)(nn.Identity(), LOGITS, LABELS)
    gap = cross_entropy(LOGITS, LABELS, 0.0, WEIGHTS) - cross_entropy(LOGITS, LABELS)
    assert (weighed - plain).item() == pytest.approx(0.75 * gap.item(), abs=1e-6)


def uneven(digits: Dataset) -> Dataset:
    """Digits of which five are rare: 6 images of each against 60 of the others."""
    labels = digits.train.labels
    kept = [np.flatnonzero(labels == digit)[: 6 if digit % 2 else 60] for digit in range(10)]
    return replace(digits, train=digits.train.take(np.sort(np.concatenate(kept))))


def begin(data: Dataset, run: Path, recipe: Recipe, stop: int = 0, *, resume: bool = False) -> None:
    network = {"width_mult": 0.25, "image_size": 8, "device": "cpu"}
    progress = InterruptAt(stop)
    train("mobilenet_v3_small", data, run, recipe=recipe, resume=resume, progress=progress, **network)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_a_stopped_balanced_run_goes_on_to_the_same_weights(digits: Dataset, tmp_path: Path, balance: str) -> None:
    few = replace(digits, train=uneven(digits).train.take(range(0, 330, 3)), test=digits.test.take(range(50)))
    recipe = replace(QUICK, balance=balance)  # type: ignore[arg-type]
    begin(few, tmp_path / "whole", recipe)
    with pytest.raises(TrainingInterruptedError):
        begin(few, tmp_path / "parts", recipe, stop=5)
    begin(few, tmp_path / "parts", recipe, resume=True)
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_rare_classes_gain(digits: Dataset, tmp_path: Path, balance: str) -> None:
    """On raw pixels, which a linear layer learns in a blink."""
    images = prepare(uneven(digits).train, Preprocessing(8))
    test = prepare(digits.test, Preprocessing(8))

    def mean_recall(recipe: Recipe) -> float:
        torch.manual_seed(0)
        drawn, weights = balanced(images, recipe, 10, torch.device("cpu"))
        training = Training(
            nn.Sequential(nn.Flatten(), nn.Linear(192, 10)),
            drawn,
            recipe,
            tmp_path / recipe.balance,
            experiment=Experiment({}, recipe.to_dict(), {}),
            device=torch.device("cpu"),
            progress=Silent(),
            classes=10,
            objective=CrossEntropy(0.0, weights),
        )
        predict = torch_predict(training.fit(), Preprocessing(8), torch.device("cpu"))
        scores = evaluate_predictions(predict, test.batches(250), digits.classes).metrics
        return float(np.mean([one.recall for one in scores.classes]))

    recipe = replace(QUICK, epochs=6, crop_padding=0)
    plain, better = mean_recall(recipe), mean_recall(replace(recipe, balance=balance))  # type: ignore[arg-type]
    assert better > plain + 5
