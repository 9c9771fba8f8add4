"""Trusted networks with random weights and batch norm statistics, saved to files as their publishers save them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import timm
import torch
import torchvision
from torch import nn

from mobilenets.models.network import MobileNet

Reference = Callable[..., nn.Module]
SameAnswers = Callable[..., None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def timm_network() -> Reference:
    def build(name: str, num_classes: int = 10) -> nn.Module:
        torch.manual_seed(0)
        return _with_random_norms(timm.create_model(name, num_classes=num_classes))

    return build


@pytest.fixture
def torchvision_network() -> Reference:
    def build(name: str, num_classes: int = 10) -> nn.Module:
        torch.manual_seed(0)
        return _with_random_norms(torchvision.models.get_model(name, num_classes=num_classes))

    return build


@pytest.fixture
def assert_same_answers() -> SameAnswers:
    """Two networks give the same outputs, at a size that is even and at one that is odd at every step."""

    def check(ours: MobileNet, theirs: nn.Module, tolerance: float = 1e-5) -> None:
        ours.eval()
        for size in (64, 65):
            torch.manual_seed(1)
            images = torch.randn(2, 3, size, size)
            with torch.inference_mode():
                expected, answer = theirs(images), ours(images)
            # Of the largest logit, where it is above 1: rounding grows with the values.
            allowed = tolerance * max(1.0, expected.abs().max().item())
            # The two images must be told apart, or agreement would show nothing.
            assert (expected[0] - expected[1]).abs().max() > 100 * allowed
            assert (answer - expected).abs().max() <= allowed

    return check


def _with_random_norms(network: nn.Module) -> nn.Module:
    """Batch norms with random parameters and the statistics of random images.

    Fresh norms are 0 and 1 in every network: only others show an eps or an order that differs.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last batch
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    return network.eval()
