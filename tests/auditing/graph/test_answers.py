"""The logits are found in whatever container and at whatever position a network returns them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mobilenets.auditing.graph.capture import capture
from mobilenets.auditing.graph.nodes import Add, Linear, Node
from mobilenets.auditing.graph.sandbox import place_of_answer, tensors_of

Named = namedtuple("Named", "features logits")


@dataclass
class Record:
    features: Tensor
    logits: Tensor


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As model hubs have it: a dictionary with attributes, not known to PyTorch."""


class Plain:
    def __init__(self, features: Tensor, logits: Tensor) -> None:
        self.features, self.logits = features, logits


class Net(nn.Module):
    def __init__(self, answer: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.classifier = nn.Linear(8, 5)
        self.answer = answer

    def forward(self, images: Tensor) -> object:
        features = self.conv(images).mean((2, 3))
        return self.answer(features, self.classifier(features))


@pytest.mark.parametrize(
    "answer",
    [
        lambda features, logits: (features, logits),
        lambda features, logits: (logits, features),
        lambda features, logits: {"features": features, "logits": logits},
        lambda features, logits: [features, [logits]],
        lambda features, logits: ModelOutput(loss=None, logits=logits, hidden=features),
        lambda features, logits: (features, logits.softmax(1), logits, logits.argmax(1)),
        lambda features, logits: (features[:, :, None, None].expand(-1, -1, 7, 7), logits),
        Named,
        Record,
        Plain,
    ],
)
def test_the_answer_is_the_logits(answer: Callable[[Tensor, Tensor], object]) -> None:
    graph = capture(Net(answer), (1, 3, 16, 16))
    assert graph.front_end == "torch.export"
    last = {node.name: node for node in graph.nodes}[graph.output]
    assert last.shape == (1, 5)
    assert isinstance(last.operator, Linear)


def test_of_maps_the_one_most_layers_lead_to() -> None:
    def node(name: str, *inputs: str, weighted: bool = True) -> Node:
        return Node(name, Linear(1, 1, bias=False) if weighted else Add(), inputs, (1, 4, 7, 7), name, 0)

    nodes = [
        node("a", "input"),
        node("m", "a"),
        node("b", "m"),
        node("sum", "b", "a", weighted=False),
        node("aux", "a"),
    ]
    outputs = [("aux", (1, 4, 7, 7)), ("b", (1, 4, 7, 7)), ("a", (1, 4, 14, 14)), ("sum", (1, 4, 7, 7))]
    assert place_of_answer(outputs, nodes) == 1
    assert place_of_answer([("a", (1, 4)), ("aux", (1, 9))], nodes) == 1


def test_an_output_that_holds_itself_ends() -> None:
    loop: list[object] = [torch.zeros(1)]
    loop.append(loop)
    assert 1 <= len(list(tensors_of(loop))) <= 16
