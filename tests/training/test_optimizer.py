from __future__ import annotations

import pytest
import torch

from mobilenets.models.registry import create_model, list_models
from mobilenets.training.optimizer import build_optimizer, set_learning_rate
from mobilenets.training.recipe import Recipe


@pytest.mark.parametrize("name", list_models())
def test_every_parameter_is_in_one_group_and_only_filters_decay(name: str) -> None:
    model = create_model(name, num_classes=10, image_size=32)
    optimizer = build_optimizer(model, Recipe(weight_decay=0.5, decay_norm_and_bias=False))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)


def test_the_articles_let_everything_decay() -> None:
    optimizer = build_optimizer(create_model("mobilenet_v2", num_classes=2), Recipe(weight_decay=0.5))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_sgd_is_nesterovs_and_the_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), Recipe(optimizer="sgd"))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.9
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
