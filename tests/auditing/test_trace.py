from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mobilenets.auditing.trace import trace
from mobilenets.errors import ModelError


def test_buffers_are_shared_by_views_and_by_work_in_place() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.ReLU())
    record = trace(model, (1, 3, 2, 2))
    assert record.inputs == 1
    assert record.buffer_bytes == (3 * 4 * 4, 4 * 4 * 4, 4 * 4 * 4)
    assert [(operation.path, operation.reads, operation.writes) for operation in record.operations] == [
        ("0", (0,), (1,)),
        ("1", (1,), (1,)),
        ("2", (1,), (1,)),
        ("3", (1,), (2,)),
    ]


def test_weights_are_no_activations() -> None:
    record = trace(nn.Sequential(nn.Linear(6, 5)), (2, 6))
    product = record.operations[-1]
    assert product.macs == 2 * 6 * 5
    assert (product.reads, product.writes) == ((0,), (1,))
    assert record.buffer_bytes == (2 * 6 * 4, 2 * 5 * 4)


def test_convolutions_keep_their_shape() -> None:
    record = trace(nn.Conv2d(8, 16, (3, 5), stride=2, groups=4), (1, 8, 11, 11))
    convolution = record.operations[0].convolution
    assert convolution is not None
    assert convolution.weight_shape == (16, 2, 3, 5)
    assert convolution.groups == 4
    assert convolution.stride == (2, 2)
    assert record.operations[0].parameters == 16 * 2 * 3 * 5 + 16
    assert trace(nn.ConvTranspose2d(8, 16, 3), (1, 8, 4, 4)).operations[0].convolution is None


def test_evaluation_mode_whatever_the_networks_own() -> None:
    """One value a channel: batch norm in training mode would refuse."""
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    record = trace(model, (1, 4, 1, 1))
    assert len(record.buffer_bytes) == 3  # input, result, and the empty reserve of batch norm
    assert record.buffer_bytes[:1] == (16,)
    assert sum(record.buffer_bytes) == 32
    assert record.modules["1"].output_shape == (1, 4, 1, 1)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"sum": x.sum(1), "all": x}


def test_of_several_outputs_the_first_gives_the_shape() -> None:
    record = trace(Pair(), (2, 3))
    assert record.modules[""].output_shape == (2,)


def test_the_callers_hooks_see_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    seen: list[str] = []
    model[0].register_forward_hook(lambda module, args, output: seen.append("after"))
    model.register_forward_pre_hook(lambda module, args: seen.append("before"))
    assert trace(model, (1, 2)).modules["0"].output_shape == (1, 2)
    assert seen == []
    model(torch.zeros(1, 2))
    assert seen == ["before", "after"]


class Picky(nn.Module):
    """Turns every input down, in the way it was told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("too small\nstack"), "too small"),
        (ValueError("odd"), "odd"),
        (AssertionError(), "AssertionError"),
        (TypeError("grey"), "grey"),
        (IndexError("empty"), "empty"),
        (ZeroDivisionError("by zero"), "by zero"),
    ],
)
def test_an_input_the_network_refuses_is_one_line(error: Exception, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        trace(Picky(error), (1, 3, 8, 8))
    assert str(caught.value) == f"Picky can't take an input of 1 x 3 x 8 x 8: {said}"


@pytest.mark.parametrize("side", [10**10, 10**30, -1])
def test_a_shape_no_tensor_can_have_is_one_line(side: int) -> None:
    with pytest.raises(ModelError, match=f"Conv2d can't take an input of 1 x 3 x {side} x {side}: ") as caught:
        trace(nn.Conv2d(3, 4, 1), (1, 3, side, side))
    assert "\n" not in str(caught.value)
