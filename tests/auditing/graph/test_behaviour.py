from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from mobilenets.auditing.graph.behaviour import observe
from mobilenets.auditing.graph.capture import capture
from mobilenets.auditing.graph.nodes import Add, Behaviour

SHAPE = (1, 3, 32, 32)


class Residual(nn.Module):
    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], momentum: float = 0.1) -> None:
        super().__init__()
        self.join = join
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.norm(self.conv(x)))


class Stubborn(Residual):
    def train(self, mode: bool = True) -> Stubborn:
        super().train(True)
        return self


def classifier(block: nn.Module, head: nn.Module | None = None) -> nn.Module:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(nn.Conv2d(3, 4, 1), block, head or pooled)


def observed(network: nn.Module) -> Behaviour:
    return observe(network, capture(network, SHAPE), SHAPE)


def plain(x: Tensor, branch: Tensor) -> Tensor:
    return x + branch


@pytest.mark.slow
def test_a_sound_network_shows_nothing() -> None:
    assert observed(torchvision.models.mobilenet_v2(num_classes=5)) == Behaviour()


@pytest.mark.slow
def test_the_network_is_not_touched() -> None:
    network = classifier(Residual(plain)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    observed(network)
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_norm_that_stays_in_training_leaks_through_the_batch() -> None:
    found = observed(classifier(Stubborn(plain)))
    assert found.stays_in_training == ("1.norm",)
    assert found.depends_on_batch


def test_dropout_that_ignores_eval_makes_answers_vary() -> None:
    found = observed(classifier(Residual(lambda x, branch: x + F.dropout(branch, 0.5))))
    assert found.stays_in_training == ("1",)
    assert found.varies


def test_statistics_that_do_not_move() -> None:
    assert observed(classifier(Residual(plain, momentum=0.0))).frozen_norms == ("1.norm",)


def test_a_head_of_fixed_size_names_pytorchs_reason() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 32 * 32, 2))
    reason = observed(classifier(Residual(plain), head)).fixed_size
    assert reason is not None
    assert "cannot be multiplied" in reason


@pytest.mark.parametrize(
    ("join", "dead"),
    [
        (plain, False),
        (lambda x, branch: branch.add_(x), False),
        (lambda x, branch: branch + x.detach(), False),
        (lambda x, branch: branch + 0.5 * x, True),
        (lambda x, branch: branch + F.relu_(x), True),
        (lambda x, branch: torch.add(branch, x, alpha=0.1), True),
    ],
)
def test_shortcuts_with_a_zeroed_branch(join: Callable[[Tensor, Tensor], Tensor], dead: bool) -> None:
    network = classifier(Residual(join))
    graph = capture(network, SHAPE)
    (path,) = (node.path for node in graph.nodes if isinstance(node.operator, Add))
    assert path
    assert observe(network, graph, SHAPE).dead_shortcuts == ((path,) if dead else ())
