from __future__ import annotations

import pytest
import torch
from torch import nn

from mobilenets.models.registry import create_model, list_models
from mobilenets.training.optimizer import TensorFlowRMSprop, build_optimizer, set_learning_rate
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


@pytest.mark.parametrize("name", list_models())
def test_depthwise_filters_can_be_spared(name: str) -> None:
    model = create_model(name, num_classes=10, image_size=32)
    optimizer = build_optimizer(model, Recipe(weight_decay=0.5, decay_norm_and_bias=False, decay_depthwise=False))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sorted(decay) == sorted(id(p) for p in model.parameters())
    depthwise = 0
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            spared = layer.groups == layer.in_channels and layer.groups > 1
            depthwise += spared
            assert decay[id(layer.weight)] == (0.0 if spared else 0.5)
        elif isinstance(layer, nn.BatchNorm2d):
            assert decay[id(layer.weight)] == decay[id(layer.bias)] == 0.0
    assert depthwise > 3


def test_fields_reach_the_optimizer() -> None:
    model = torch.nn.Linear(2, 2)
    adamw = build_optimizer(model, Recipe(momentum=0.6, alpha=0.99, epsilon=1e-6)).defaults
    assert (adamw["betas"], adamw["eps"]) == ((0.6, 0.99), 1e-6)
    usual = build_optimizer(model, Recipe()).defaults
    assert (usual["betas"], usual["eps"]) == ((0.9, 0.999), 1e-8)
    rmsprop = build_optimizer(model, Recipe(optimizer="rmsprop", epsilon=1.0, weight_decay=4e-5))
    assert isinstance(rmsprop, TensorFlowRMSprop)
    assert (rmsprop.defaults["momentum"], rmsprop.defaults["alpha"], rmsprop.defaults["eps"]) == (0.9, 0.9, 1.0)
    assert rmsprop.param_groups[0]["weight_decay"] == 4e-5
    assert build_optimizer(model, Recipe(optimizer="sgd", momentum=0.8)).defaults["momentum"] == 0.8
    assert not build_optimizer(model, Recipe(optimizer="sgd", momentum=0.0)).defaults["nesterov"]


def test_sgd_is_nesterovs_and_the_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), Recipe(optimizer="sgd"))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.9
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
