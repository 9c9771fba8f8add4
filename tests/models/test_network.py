from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from mobilenets.errors import ModelError
from mobilenets.models.mobilenet_v4_blocks import MultiQueryAttention
from mobilenets.models.network import MIN_FEATURE_SIZE, MobileNet, initialise, stride_plan
from mobilenets.models.registry import create_model, list_models

FIVE_STEPS = (2, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1)

strides = st.lists(st.sampled_from([1, 2]), max_size=20)
sizes = st.integers(min_value=8, max_value=1024)


def last_map(plan: tuple[int, ...], size: int) -> int:
    x = torch.empty(1, 1, size, 1, device="meta")
    for stride in plan:
        x = F.conv2d(x, torch.empty(1, 1, 3, 1, device="meta"), stride=(stride, 1), padding=(1, 0))
    return x.shape[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "kept", "side"),
    [(8, 1, 4), (16, 2, 4), (28, 3, 4), (32, 3, 4), (64, 4, 4), (65, 5, 3), (96, 5, 3), (224, 5, 7)],
)
def test_stride_plan_examples(size: int, kept: int, side: int) -> None:
    plan = stride_plan(FIVE_STEPS, size)
    assert plan.count(2) == kept
    assert last_map(plan, size) == side


@given(strides, sizes)
def test_stride_plan_removes_the_earliest_steps_and_no_more_than_needed(strides: list[int], size: int) -> None:
    plan = stride_plan(strides, size)
    steps = [index for index, stride in enumerate(strides) if stride == 2]
    removed = [index for index in steps if plan[index] == 1]
    assert removed == steps[: len(removed)]
    assert all(plan[index] == strides[index] for index in range(len(strides)) if index not in removed)
    assert last_map(plan, size) >= MIN_FEATURE_SIZE
    if removed:
        one_more = [2 if index == removed[-1] else stride for index, stride in enumerate(plan)]
        assert last_map(tuple(one_more), size) < MIN_FEATURE_SIZE


def strides_of(model: nn.Module) -> list[tuple[int, ...]]:
    """Of the convolutions from images to logits: what only attention's keys and values pass is aside."""
    aside = {
        id(inner) for outer in model.modules() if isinstance(outer, MultiQueryAttention) for inner in outer.modules()
    }
    return [m.stride for m in model.modules() if isinstance(m, nn.Conv2d) and id(m) not in aside]


@pytest.mark.parametrize("name", list_models())
def test_from_96_pixels_up_nothing_changes(name: str) -> None:
    with torch.device("meta"):
        published = strides_of(create_model(name))
        assert strides_of(create_model(name, image_size=96)) == published
        assert strides_of(create_model(name, image_size=32)) != published
    assert published.count((2, 2)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(("planned", "size", "side"), [(32, 32, 4), (32, 33, 5), (224, 8, 1), (96, 161, 6)])
def test_images_of_any_size_run(name: str, planned: int, size: int, side: int) -> None:
    model = create_model(name, num_classes=7, width_mult=0.25, image_size=planned, in_channels=1).eval()
    images = torch.randn(2, 1, size, size)
    with torch.inference_mode():
        assert model(images).shape == (2, 7)
        assert model.forward_features(images).shape[2:] == (side, side)


def test_it_starts_as_the_papers_code_does() -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", num_classes=100)
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    everything = torch.cat([weight.detach().flatten() for weight in weights])
    assert everything.abs().max() <= 0.18
    assert everything.mean().abs() < 1e-3
    # Cutting a normal distribution at two standard deviations leaves 0.8796 of its own.
    assert everything.std().item() == pytest.approx(0.09 * 0.8796, rel=0.01)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_initialise_undoes_what_training_did() -> None:
    model = create_model("mobilenet_v2", width_mult=0.35, num_classes=5, image_size=32)
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        nn.init.constant_(tensor, 3)
    initialise(model)
    assert max(tensor.abs().max().item() for tensor in model.parameters()) == 1
    assert all(not buffer.any() for name, buffer in model.named_buffers() if name.endswith("running_mean"))


@pytest.mark.parametrize("name", list_models())
def test_a_network_of_its_config_takes_its_weights(name: str) -> None:
    model = create_model(name, num_classes=4, width_mult=0.35, image_size=32, dropout=0.4, in_channels=1)
    again: MobileNet = create_model(**model.config.to_dict())  # type: ignore[call-overload]
    again.load_state_dict(model.state_dict())
    assert again.config == model.config
    assert again.dropout.p == 0.4
    images = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(images), model.eval()(images), rtol=0, atol=0)


def test_it_can_be_copied_and_pickled() -> None:
    model = create_model("mobilenet_v1", num_classes=4, width_mult=0.25, image_size=32, activation="relu6")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(copied, MobileNet)
        assert copied.config == model.config
        assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", list_models())
def test_the_forward_pass_is_features_then_head(name: str) -> None:
    model = create_model(name, num_classes=5, width_mult=0.25, image_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        maps = model.forward_features(images)
        hidden = model.forward_head(maps, pre_logits=True)
        logits = model.forward_head(maps)
        assert torch.equal(logits, model(images))
        assert torch.equal(logits, model.get_classifier()(hidden))
    assert maps.shape == (2, model.num_features, 4, 4)
    assert hidden.shape == (2, model.head_hidden_size)
    assert logits.shape == (2, model.num_classes)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.slow
def test_a_new_classifier_is_initialised_and_saved_with_the_network(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, width_mult=0.25, image_size=32).double().eval()
    before = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("classifier.")}
    model.reset_classifier(50)
    layer = model.get_classifier()
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features, layer.weight.dtype) == (model.head_hidden_size, 50, torch.float64)
    assert not layer.training
    assert not layer.bias.any()
    assert layer.weight.std().item() == pytest.approx(0.09 * 0.8796, rel=0.02)
    assert model.num_classes == model.config.num_classes == 50
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())
    again: MobileNet = create_model(**model.config.to_dict())  # type: ignore[call-overload]
    again.load_state_dict(model.state_dict())
    assert again.config == model.config


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v4_conv_small"])
def test_without_classes_it_returns_what_the_classifier_got(name: str) -> None:
    model = create_model(name, num_classes=3, width_mult=0.25, image_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    with torch.inference_mode():
        hidden = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.equal(model(images), hidden)
    again = create_model(name, num_classes=0, width_mult=0.25, image_size=32).eval()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(images), hidden)
    again.reset_classifier(4)
    assert again(images).shape == (2, 4)


@pytest.mark.parametrize("wrong", [-1, 2.5, "3", True, 10**7])
def test_a_wrong_number_of_classes_changes_nothing(wrong: Any) -> None:
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.25, image_size=32)
    classifier = model.get_classifier()
    with pytest.raises(ModelError, match=r"num_classes is .*: it must be a whole number, from 0 to 1000000"):
        model.reset_classifier(wrong)
    assert model.get_classifier() is classifier
    assert model.num_classes == model.config.num_classes == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_a_few_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images[:16], dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target[:16])
    model = create_model(name, num_classes=10, width_mult=0.25, image_size=8, in_channels=1, dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.7 * losses[0]:  # learned enough: the large networks' steps take long
            break
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())
