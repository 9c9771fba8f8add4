"""One network written in many ways is one chain; so is it when a graph has what a chain has no place for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.graph.hooks import hook_graph
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.layers import Chain, Grouping, Padding, ShortcutKind
from mobilenets.auditing.structure.published import without_paths
from mobilenets.errors import AuditError

SIZE = 16


def folded(network: nn.Module) -> Chain:
    return without_paths(fold(export_graph(network.eval(), (1, 3, SIZE, SIZE))))


def conv(inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outside)]


class Nested(nn.Module):
    """Stem, a block with squeeze-and-excitation and shortcut, classifier: each in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv(3, 8, 3, 2), nn.Hardswish())
        self.wide = nn.Sequential(*conv(8, 16), nn.ReLU6(), *conv(16, 16, 3, groups=16), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Hardsigmoid()
        )
        self.narrow = nn.Sequential(*conv(16, 8))
        self.answer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        wide = self.wide(x)
        return self.answer(x + self.narrow(wide * self.gate(wide)))


class Functional(nn.Module):
    """The same with bare tensors, activations spelled out, padding of its own and a mean for a pool."""

    def __init__(self) -> None:
        super().__init__()
        gate = [(8, 16), (8,), (16, 8), (16,)]
        shapes = [(8, 3, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3), *gate, (8, 16, 1, 1), (5, 8), (5,)]
        self.a = nn.ParameterList([torch.randn(*shape) for shape in shapes])
        self.b = nn.ModuleList([nn.BatchNorm2d(channels) for channels in (8, 16, 16, 8)])

    @staticmethod
    def bent(x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6

    def forward(self, x: Tensor) -> Tensor:
        x = self.bent(self.b[0](F.conv2d(F.pad(x, (1, 1, 1, 1)), self.a[0], stride=2)))
        y = torch.clamp(self.b[1](F.conv2d(x, self.a[1])), 0, 6)
        y = self.bent(self.b[2](F.conv2d(y, self.a[2], padding=1, groups=16)))
        pooled = y.mean((2, 3))
        gate = F.linear(F.relu(F.linear(pooled, self.a[3], self.a[4])), self.a[5], self.a[6])
        y = y * (torch.clamp(gate + 3, min=0, max=6) / 6).view(-1, 16, 1, 1)
        y = self.b[3](F.conv2d(y, self.a[7])) + x
        return F.linear(F.dropout(y.mean((-1, -2)), 0.3, self.training), self.a[8], self.a[9])


class DataDependent(Nested):
    """Control flow that no export can see through."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum()) < 1e9 else -x)


def test_the_styles_are_one_chain() -> None:
    nested = folded(Nested())
    assert folded(Functional()) == nested
    assert without_paths(fold(hook_graph(DataDependent().eval(), (1, 3, SIZE, SIZE)))) == replace(nested, dropout=0.3)


def test_the_chain_says_what_the_code_does() -> None:
    chain = folded(Nested())
    stem, expand, spatial, project, classifier = chain.layers
    assert (stem.kernel, stem.stride, stem.padding, stem.activation) == (3, 2, Padding.SYMMETRIC, "hard_swish")
    assert (expand.activation, spatial.grouping, spatial.activation) == ("relu6", Grouping.DEPTHWISE, "hard_swish")
    squeeze = spatial.squeeze
    assert squeeze is not None
    assert (squeeze.channels, squeeze.gate, squeeze.before_activation) == (8, "hard_sigmoid", False)
    assert project.shortcut is not None
    assert (project.shortcut.kind, project.shortcut.span, project.activation) == (ShortcutKind.IDENTITY, 3, "none")
    assert (classifier.pooled, classifier.bias, classifier.out_channels) == (True, True, 5)
    assert (chain.pooling.kind, chain.pooling.map_size, chain.dropout, chain.unfolded) == ("global", 8, 0.3, ())
    assert (chain_cost(chain).parameters, chain_cost(chain).macs) == (chain.parameters, chain.macs)


def test_fused_norms_are_known() -> None:
    network = Nested().eval()
    for part in (network.stem, network.narrow):
        fused = fuse_conv_bn_eval(part[0], part[1])
        part[0], part[1] = fused, nn.Identity()
    assert not folded(network).folded_norms
    for index in (0, 3):
        network.wide[index] = fuse_conv_bn_eval(network.wide[index], network.wide[index + 1])
        network.wide[index + 1] = nn.Identity()
    chain = folded(network)
    assert chain.folded_norms
    assert all(layer.bias and not layer.norms for layer in chain.layers)


class Block(nn.Module):
    """A block whose branch and shortcut are given."""

    def __init__(self, branch: nn.Module, shortcut: Callable[[Tensor], Tensor], after: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.after = branch, after or nn.Identity()
        self.side = shortcut if isinstance(shortcut, nn.Module) else None
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.branch(x) + self.shortcut(x))


def around(*middle: nn.Module) -> nn.Sequential:
    stem = nn.Sequential(*conv(3, 8, 3, 2), nn.ReLU())
    return nn.Sequential(stem, *middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def assert_closes(chain: Chain) -> None:
    """Layers and strays cost what the network costs."""
    costs = chain_cost(chain)
    assert chain.parameters == costs.parameters + sum(stray.parameters for stray in chain.unfolded)
    assert chain.macs == costs.macs + sum(stray.macs for stray in chain.unfolded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stride", "out", "shortcut", "kind"),
    [
        (1, 8, lambda x: x, ShortcutKind.IDENTITY),
        (1, 8, nn.Sequential(*conv(8, 8)), ShortcutKind.PROJECTED),
        (2, 8, nn.AvgPool2d(2), ShortcutKind.POOLED),
        (2, 8, lambda x: x[:, :, ::2, ::2], ShortcutKind.POOLED),
        (1, 8, lambda x: F.pad(x[:, :4], (0, 0, 0, 0, 0, 4)), ShortcutKind.PADDED),
        (1, 8, lambda x: 0.5 * x, ShortcutKind.SCALED),
    ],
)
def test_every_kind_of_shortcut(
    stride: int, out: int, shortcut: Callable[[Tensor], Tensor], kind: ShortcutKind
) -> None:
    chain = folded(around(Block(nn.Sequential(*conv(8, out, 3, stride)), shortcut, nn.ReLU())))
    found = chain.layers[1].shortcut
    assert found is not None
    assert (found.kind, found.span, found.activation_after) == (kind, 1, "relu")
    assert bool(found.layers) == (kind is ShortcutKind.PROJECTED)
    assert_closes(chain)


class Joined(nn.Module):
    """Two convolutions side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x)], 1)


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (Joined(), "concat"),
        (Twice(), "weights shared"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)), "where none belongs"),
        (Block(nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)), lambda x: x), "in front of a convolution"),
        (Block(nn.Sequential(nn.Hardswish(), nn.Conv2d(8, 8, 1)), lambda x: x), "on the branch alone"),
        (nn.Sequential(nn.Conv2d(8, 8, 1), nn.MaxPool2d(2)), "max pool"),
        (nn.Sequential(nn.Dropout(0.4), nn.Conv2d(8, 8, 1)), "dropout of 0.4"),
        (Block(nn.MaxPool2d(3, 1, 1), lambda x: x), "max pool"),
    ],
)
def test_what_has_no_place_is_kept_and_said(odd: nn.Module, what: str) -> None:
    chain = folded(around(odd))
    assert any(what in stray.what for stray in chain.unfolded), chain.unfolded
    assert_closes(chain)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(8, 5)), "fixed"),
        (nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 8, 5)), "flatten"),
        (nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5)), "max"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1), nn.Flatten()), "global"),
    ],
)
def test_every_kind_of_pooling(head: nn.Module, kind: str) -> None:
    chain = folded(nn.Sequential(*conv(3, 8, 3, 2), nn.ReLU(), head, nn.Softmax(1)))
    assert (chain.pooling.kind, chain.pooling.map_size, chain.final) == (kind, 8, "softmax")
    assert chain.layers[-1].pooled
    assert chain_cost(chain).parameters == chain.parameters


def test_the_input_is_prepared_outside_the_chain() -> None:
    class Prepared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Nested()

        def forward(self, x: Tensor) -> Tensor:
            return self.network((x / 255 - 0.5) / 0.25)

    assert folded(Prepared()) == folded(Nested())


def test_no_convolutions_no_chain() -> None:
    with pytest.raises(AuditError, match="no convolutions"):
        folded(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5)))
