from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.graph.nodes import (
    ChannelScale,
    Conv,
    Dropout,
    Graph,
    Linear,
    Norm,
    Other,
    Pad,
    PoolOperation,
    Slice,
)

SHAPE = (1, 3, 32, 32)
Words = Callable[[Graph], list[str]]


class Functional(nn.Module):
    """Run `body` on the input; parameters are set as attributes beforehand."""

    def __init__(self, body: Callable[[Functional, Tensor], Tensor], **members: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.body = body
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def operators(module: nn.Module, shape: tuple[int, int, int, int] = SHAPE) -> list[object]:
    return [node.operator for node in export_graph(module, shape).nodes]


def test_a_plain_network_operator_by_operator(tiny: nn.Module) -> None:
    graph = export_graph(tiny, SHAPE)
    conv, norm, activation, depthwise, pool, flat, dropout, linear = graph.nodes
    assert conv.operator == Conv(3, 8, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, bias=False)
    assert norm.operator == Norm("batch", 8, True, 1e-5, 0.1, uses_batch=False)
    assert depthwise.operator == Conv(8, 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8, bias=True)
    assert pool.operator == PoolOperation("average", (16, 16), (16, 16), (0, 0, 0, 0), adaptive=True)
    assert dropout.operator == Dropout(0.2, active=False)
    assert linear.operator == Linear(8, 10, bias=True)
    assert [node.path for node in graph.nodes] == list("01234567")
    assert activation.inputs == (norm.name,)
    assert flat.shape == (1, 8)
    assert conv.inputs == (graph.input,)
    assert graph.output == linear.name
    assert [node.parameters for node in graph.nodes] == [216, 16, 0, 80, 0, 0, 0, 90]
    assert (graph.parameters, graph.unused, graph.front_end) == (402, (), "torch.export")


def test_the_module_is_left_as_it_was(tiny: nn.Module) -> None:
    tiny.train()
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    export_graph(tiny, SHAPE)
    assert tiny.training
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.state_dict().items())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda m, x: x * F.relu6(x + 3) / 6, ["affine", "relu6", "Multiply", "scale"]),
        (lambda m, x: torch.where(x > 0, x, 0.1 * x), ["leaky_relu"]),
        (lambda m, x: x.clamp(0, 6), ["relu6"]),
        (lambda m, x: torch.minimum(F.relu(x), torch.tensor(6.0)), ["relu", "unknown"]),
        (lambda m, x: x.sigmoid().mul(x), ["sigmoid", "Multiply"]),
        (lambda m, x: torch.add(x, F.relu(x), alpha=0.5), ["relu", "scale", "Add"]),
        (lambda m, x: x.relu_() + x, ["relu", "Add"]),
        (lambda m, x: torch.max(x, torch.zeros_like(x)), ["relu"]),
        (lambda m, x: F.adaptive_avg_pool2d(x, 1) * x, ["PoolOperation", "Multiply"]),
        (lambda m, x: x.mean(3).mean(2), ["PoolOperation", "PoolOperation"]),
        (lambda m, x: x.flatten(2).mean(-1), ["Reshape", "PoolOperation"]),
        (lambda m, x: torch.cat(x.chunk(3, 1), 1), ["Slice", "Slice", "Slice", "Concat"]),
        (
            lambda m, x: F.softmax(x.flatten(2) @ x.flatten(2).mT, -1),
            ["Reshape", "Reshape", "Reshape", "MatMul", "Softmax"],
        ),
        (lambda m, x: torch.einsum("bchw,bchw->bc", x, x), ["MatMul"]),
        (lambda m, x: torch.fft.fft2(x).real, ["Other", "Other"]),
    ],
)
def test_code_styles(body: Callable[[nn.Module, Tensor], Tensor], expected: list[str], words: Words) -> None:
    assert words(export_graph(Functional(body), SHAPE)) == expected


def test_in_place_writes_reach_the_tensors_other_names(words: Words) -> None:
    graph = export_graph(Functional(lambda m, x: (F.relu_(x), x * 2)[1]), SHAPE)
    assert words(graph) == ["relu", "scale"]


def test_a_shortcut_of_fewer_channels_written_into_a_slice() -> None:
    def body(module: Functional, x: Tensor) -> Tensor:
        y = module.conv(x)
        y[:, :3] += x
        return y * 2

    graph = export_graph(Functional(body, conv=nn.Conv2d(3, 8, 1)), SHAPE)
    kinds = [node.operator for node in graph.nodes]
    written = graph.nodes[3]
    assert written.operator == Other("slice assignment")
    assert [type(kind).__name__ for kind in kinds] == ["Conv", "Slice", "Add", "Other", "Pointwise"]
    assert written.inputs == (graph.nodes[0].name, graph.nodes[2].name)
    assert graph.nodes[4].inputs == (written.name,)


def test_padding_in_all_spellings() -> None:
    assert operators(Functional(lambda m, x: F.pad(x, (0, 1, 2, 3)))) == [Pad((2, 3, 0, 1), (0, 0))]
    assert operators(Functional(lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)))) == [Pad((0, 0, 0, 0), (1, 2))]
    assert operators(Functional(lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect"))) == [Other("pad reflect")]
    (conv,) = operators(nn.Conv2d(3, 3, 4, padding="same"))
    assert isinstance(conv, Conv)
    assert conv.padding == (1, 2, 1, 2)


def test_strided_slices_tell_their_steps() -> None:
    kinds = operators(Functional(lambda m, x: x[:, :, ::2, ::2]))
    assert [kind for kind in kinds if isinstance(kind, Slice)] == [Slice((1, 1, 2, 1)), Slice((1, 1, 1, 2))]


def test_a_factor_per_channel_is_a_layer_scale_and_factor_and_shift_a_norm() -> None:
    gamma, beta = nn.Parameter(torch.ones(3, 1, 1)), nn.Parameter(torch.zeros(1, 3, 1, 1))
    assert operators(Functional(lambda m, x: x * m.gamma, gamma=gamma)) == [ChannelScale(3)]
    graph = export_graph(Functional(lambda m, x: x * m.gamma + m.beta, gamma=gamma, beta=beta), SHAPE)
    assert [node.operator for node in graph.nodes] == [Norm("affine", 3, True, 0.0, None, uses_batch=False)]
    assert graph.nodes[0].parameters == 6


def test_a_weight_computed_from_parameters_counts_once() -> None:
    def body(module: Functional, x: Tensor) -> Tensor:
        weight = module.weight - module.weight.mean()
        return F.conv2d(F.conv2d(x, weight), module.weight)

    graph = export_graph(Functional(body, weight=nn.Parameter(torch.rand(3, 3, 1, 1))), SHAPE)
    assert [node.parameters for node in graph.nodes] == [9, 0]
    assert graph.parameters == 9


def test_parameters_that_nothing_reads_are_named() -> None:
    module = Functional(lambda m, x: x + 1, spare=nn.Conv2d(3, 4, 1))
    graph = export_graph(module, SHAPE)
    assert graph.unused == (("spare.weight", 12), ("spare.bias", 4))
    assert graph.parameters == 16


def test_dropout_that_ignores_eval_is_active() -> None:
    assert operators(Functional(lambda m, x: F.dropout(x, 0.3))) == [Dropout(0.3, active=True)]
