from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilenets.auditing.graph.capture import capture
from mobilenets.auditing.graph.nodes import ChannelScale, Norm, Pointwise
from mobilenets.auditing.graph.probe import name_activation


class WrittenOut(nn.Module):
    """ReLU by `where` and a map of zeros, then a learnt factor per channel that starts as ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.factor = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return torch.where(x > 0, x, torch.zeros_like(x)) * self.factor


def test_a_map_of_zeros_is_a_constant_and_a_fresh_parameter_is_none() -> None:
    graph = capture(WrittenOut(), (1, 3, 8, 8))
    functions = [node.operator for node in graph.nodes if isinstance(node.operator, Pointwise)]
    assert name_activation(functions[-1].function) == "relu"
    (factor,) = [node for node in graph.nodes if isinstance(node.operator, ChannelScale | Norm)]
    assert factor.parameters == 4
