from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilenets.audit.trace import trace


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
    seen: list[torch.Size] = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    trace(model, (1, 2))
    assert len(model[0]._forward_hooks) == 1
