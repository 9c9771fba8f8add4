"""What is frozen stays as it was, bit for bit, whatever else the recipe does; and such a run resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import PreparedImages
from mobilenets.errors import RecipeError, TrainingInterruptedError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import load_network
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.loop import Training
from mobilenets.training.optimizer import (
    build_optimizer,
    folded_norms,
    freeze,
    set_learning_rate,
    training_mode,
    with_rates,
)
from mobilenets.training.recipe import Recipe
from mobilenets.workflows.train import train

from .conftest import QUICK, InterruptAt

HARSH = replace(QUICK, weight_decay=0.5, ema_decay=0.9, optimizer="sgd", clip_grad_norm=1.0)
"""Whatever could reach a frozen layer by a way of its own: decay, averages, momentum, re-estimated statistics."""


def begin(images: PreparedImages, run: Path, recipe: Recipe, stop: int = 0) -> Training:
    torch.manual_seed(3)
    model = create_model("mobilenet_v3_small", num_classes=10, width_mult=0.25, image_size=8)
    for name, tensor in model.state_dict().items():  # statistics as after a training
        if name.endswith("running_mean"):
            tensor.normal_()
    run.mkdir(parents=True, exist_ok=True)
    return Training(
        model,
        images,
        recipe,
        run,
        experiment=Experiment(model.config.to_dict(), recipe.to_dict(), {}),
        device=torch.device("cpu"),
        progress=InterruptAt(stop),
        classes=10,
    )


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_a_frozen_backbone_keeps_every_bit_and_the_classifier_learns(
    few_digits: PreparedImages, tmp_path: Path
) -> None:
    training = begin(few_digits, tmp_path, replace(HARSH, freeze="backbone"))
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    trained = training.fit()
    wanted = {"classifier.weight", "classifier.bias"}
    assert changed(before, trained.state_dict()) == wanted
    assert changed(before, training.model.state_dict()) == wanted


@pytest.mark.slow
def test_frozen_batch_norm_keeps_every_bit_and_filters_learn(few_digits: PreparedImages, tmp_path: Path) -> None:
    training = begin(few_digits, tmp_path, replace(HARSH, freeze="bn"))
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    moved = changed(before, training.fit().state_dict())
    assert not any(".norm." in name for name in moved)
    assert {name for name in before if name.endswith("conv.weight")} <= moved


@pytest.mark.parametrize("what", ["bn", "backbone"])
def test_frozen_norms_answer_an_image_the_same_whatever_is_beside_it(what: str) -> None:
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.35, image_size=32, dropout=0.0)
    freeze(model, what)  # type: ignore[arg-type]
    training_mode(model, what)  # type: ignore[arg-type]
    images = torch.randn(4, 3, 32, 32)
    assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-4)
    assert model.classifier.training
    assert model.dropout.training


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"freeze": "bn", "backbone_rate": 0.1}, {"freeze": "backbone"}])
def test_a_stopped_run_goes_on_to_the_same_weights(
    few_digits: PreparedImages, tmp_path: Path, changes: dict[str, object]
) -> None:
    recipe = replace(QUICK, ema_decay=0.9, **changes)  # type: ignore[arg-type]
    whole = begin(few_digits, tmp_path / "whole", recipe).fit()
    with pytest.raises(TrainingInterruptedError):
        begin(few_digits, tmp_path / "parts", recipe, stop=8).fit()
    parts = begin(few_digits, tmp_path / "parts", recipe).fit(resume=True)
    assert not changed(dict(whole.state_dict()), dict(parts.state_dict()))


def test_the_backbone_gets_its_share_of_the_rate_and_every_parameter_one_group() -> None:
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.35, image_size=32)
    optimizer = build_optimizer(model, Recipe(backbone_rate=0.1))
    set_learning_rate(optimizer, 2.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(2.0 if name.startswith("classifier.") else 0.2)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)
    groups = [{"params": list(model.parameters())}]
    assert with_rates(groups, model, 1.0) == groups


def test_norms_that_change_nothing_are_known() -> None:
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.35, image_size=32)
    assert folded_norms(model)
    model.stem.norm.running_mean += 1
    assert not folded_norms(model)
    assert not folded_norms(torch.nn.Linear(2, 2))


def test_freezing_what_was_never_learnt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="freeze is backbone, but the network starts fresh"):
        train("mobilenet_v2", "digits", tmp_path / "run", freeze="backbone")


@pytest.mark.slow
def test_a_frozen_run_from_weights_is_their_backbone_to_the_end(tmp_path: Path) -> None:
    """By the whole `train`, which measures ways to compute, scores and saves."""
    few = load_dataset("digits")
    few = replace(few, train=few.train.take(range(96)), test=few.test.take(range(40)))
    common = {"recipe": QUICK, "width_mult": 0.25, "image_size": 8, "device": "cpu"}
    train("mobilenet_v2", few, tmp_path / "given", **common, epochs=1)  # type: ignore[arg-type]
    train("mobilenet_v2", few, tmp_path / "run", **common, weights=tmp_path / "given", freeze="backbone")  # type: ignore[arg-type]
    before, after = (dict(load_network(tmp_path / name).model.state_dict()) for name in ("given", "run"))
    assert changed(before, after) == {"classifier.weight", "classifier.bias"}
