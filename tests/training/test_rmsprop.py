"""RMSprop is TensorFlow's: against the formula in plain numbers, and against timm's port of it."""

from __future__ import annotations

import math

import pytest
import torch

from mobilenets.training.optimizer import TensorFlowRMSprop

GRADIENTS = [0.5, -2.0, 0.0, 3.0]


def by_formula(rates: list[float], momentum: float, decay: float, epsilon: float, weight_decay: float) -> float:
    weight, square, moved = 1.0, 1.0, 0.0
    for rate, gradient in zip(rates, GRADIENTS, strict=True):
        gradient += weight_decay * weight
        square = decay * square + (1 - decay) * gradient**2
        moved = momentum * moved + rate * gradient / math.sqrt(square + epsilon)
        weight -= moved
    return weight


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("epsilon", "weight_decay"), [(1.0, 0.0), (1e-3, 0.01)])
def test_it_is_the_formula_at_a_falling_rate(momentum: float, epsilon: float, weight_decay: float) -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = TensorFlowRMSprop([weight], 0.1, momentum=momentum, alpha=0.8, eps=epsilon, weight_decay=weight_decay)
    rates = [0.1, 0.1, 0.05, 0.01]
    for rate, gradient in zip(rates, GRADIENTS, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    expected = by_formula(rates, momentum, 0.8, epsilon, weight_decay)
    assert weight.tolist() == pytest.approx([expected] * 3)


def test_it_is_timms_port() -> None:
    timm = pytest.importorskip("timm.optim")
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    mine, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    ours = TensorFlowRMSprop([mine], 0.045, momentum=0.9, alpha=0.9, eps=1.0, weight_decay=4e-5)
    reference = timm.RMSpropTF([theirs], 0.045, momentum=0.9, alpha=0.9, eps=1.0, weight_decay=4e-5)
    for step in range(6):
        for weight, optimizer in ((mine, ours), (theirs, reference)):
            weight.grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    assert torch.allclose(mine, theirs, atol=1e-7)


def test_it_goes_on_from_its_saved_state() -> None:
    def stepped(weight: torch.nn.Parameter, optimizer: TensorFlowRMSprop, count: int) -> None:
        for _ in range(count):
            weight.grad = weight.detach() * 2
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(2))
    stepped(whole, TensorFlowRMSprop([whole], 0.1), 4)
    part = torch.nn.Parameter(torch.ones(2))
    first = TensorFlowRMSprop([part], 0.1)
    stepped(part, first, 2)
    second = TensorFlowRMSprop([part], 0.1)
    second.load_state_dict(first.state_dict())
    stepped(part, second, 2)
    assert torch.equal(whole, part)
