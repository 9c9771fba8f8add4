"""Comparing our networks with trusted ones: the same weights in, the same numbers out.

On one thread: with tensors this small, several mostly wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
SIZES = (224, 65)  # as published, and odd at every stride-2 step


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _randomize_batch_norm(model: nn.Module) -> None:
    """Random scales and shifts, and the statistics of random images under them.

    Fresh ones are 0 and 1 in every network: only others show an eps or an order that differs. Statistics that fit the
    data keep the outputs near 1, so that an absolute tolerance means something.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last batch
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Tensor by tensor in module order; a 1x1 convolution may stand for a linear layer."""
    given, wanted = source.state_dict(), target.state_dict()
    assert len(given) == len(wanted)
    copied: dict[str, Tensor] = {}
    for (name, tensor), (ours, place) in zip(given.items(), wanted.items(), strict=True):
        shape = tensor.shape if tensor.dim() == place.dim() else tensor.flatten(1).shape
        assert shape == place.shape, f"{name} {tuple(tensor.shape)} is no {ours} {tuple(place.shape)}"
        copied[ours] = tensor.reshape(place.shape)
    target.load_state_dict(copied)


@pytest.fixture
def assert_parity() -> Callable[[nn.Module, nn.Module], None]:
    def check(ours: nn.Module, theirs: nn.Module) -> None:
        torch.manual_seed(0)
        _randomize_batch_norm(theirs)
        _copy_weights(theirs, ours)
        ours.eval()
        theirs.eval()
        for size in SIZES:
            images = torch.randn(2, 3, size, size)
            with torch.inference_mode():
                expected, answer = theirs(images), ours(images)
            # The two images must be told apart, or agreement would show nothing.
            assert (expected[0] - expected[1]).abs().max() > 100 * TOLERANCE
            assert (answer - expected).abs().max() <= TOLERANCE

    return check
