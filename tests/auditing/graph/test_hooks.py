from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from mobilenets.auditing.count import count
from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.graph.hooks import hook_graph
from mobilenets.auditing.graph.nodes import Dropout, Graph, Other
from mobilenets.models.registry import create_model

SHAPE = (1, 3, 64, 64)
Words = Callable[[Graph], list[str]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        torchvision.models.mobilenet_v2,
        torchvision.models.mobilenet_v3_small,
        lambda: create_model("mobilenet_v1", width_mult=0.25, num_classes=10),
    ],
)
def test_both_ways_read_the_same_network(
    build: Callable[[], nn.Module],
    skeleton: Callable[[Graph], list[tuple[str, tuple[int, ...], str, int]]],
    macs: Callable[[Graph], int],
) -> None:
    network = build()
    exported, hooked, counted = export_graph(network, SHAPE), hook_graph(network, SHAPE), count(network, SHAPE)
    assert skeleton(exported) == skeleton(hooked)
    for graph in (exported, hooked):
        assert macs(graph) == counted.macs
        assert graph.parameters == counted.parameters == sum(node.parameters for node in graph.nodes)
        assert graph.unused == ()


class Awkward(nn.Module):
    """Branches on data, leaves PyTorch, writes in place, drops out by function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.sum() > 1e9:
            x = x * 2
        F.relu_(x)
        x = torch.from_numpy(x.numpy() * 1)
        x = F.dropout(x.mean((2, 3)), 0.1, self.training)
        return self.head(x)


def test_code_that_export_can_not_follow(words: Words) -> None:
    graph = hook_graph(Awkward(), SHAPE, "because")
    kinds = [kind for kind in words(graph) if kind != "Reshape"]
    assert kinds == ["Conv", "relu", "Other", "PoolOperation", "Dropout", "Linear"]
    assert next(node for node in graph.nodes if isinstance(node.operator, Dropout)).operator == Dropout(
        0.1, active=False
    )
    assert Other("outside PyTorch") in [node.operator for node in graph.nodes]
    assert graph.notes[0] == "torch.export failed: because; read with hooks instead"
    assert any("outside PyTorch" in note for note in graph.notes)
    assert graph.parameters == 8 * 27 + 8 + 36


def test_the_global_generator_is_left_alone(tiny: nn.Module) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    hook_graph(tiny, SHAPE)
    assert torch.equal(before, torch.get_rng_state())
    assert not tiny[0]._forward_hooks
