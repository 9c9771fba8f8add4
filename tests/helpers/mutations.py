"""Changes made to a finished network from torchvision, several in one: what no table of known bugs foresees.

Each takes the network and a number that says where, and leaves a network that runs. They are for the account: whatever
was changed, its parameters and multiply-adds belong to a finding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Mutation = Callable[[nn.Module, int], None]


class Beside(nn.Module):
    """A block with something else added to what it answers."""

    def __init__(self, block: nn.Module, side: nn.Module) -> None:
        super().__init__()
        self.block, self.side = block, side

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.block(x), self.side(x))


class Padded(nn.Module):
    """A module behind zeros around its input."""

    def __init__(self, module: nn.Module, zeros: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.module, self.zeros = module, zeros

    def forward(self, x: Tensor) -> Tensor:
        return self.module(F.pad(x, self.zeros))


class Enlarged(nn.Module):
    """A module that sees its input at twice the size, as code for small images does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(F.interpolate(x, scale_factor=2))


class Gate(nn.Module):
    """Squeeze-and-excitation with norms, or a bias in the first of its layers only."""

    def __init__(self, channels: int, inside: int, *, norms: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, inside, 1)
        self.up = nn.Conv2d(inside, channels, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels) if norms else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.norm(self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu())).sigmoid()


def _filters(network: nn.Module) -> list[tuple[nn.Sequential, nn.Conv2d]]:
    """The depthwise convolutions with what holds them."""
    found = []
    for holder in network.modules():
        first = holder[0] if isinstance(holder, nn.Sequential) and len(holder) else None
        if isinstance(holder, nn.Sequential) and isinstance(first, nn.Conv2d) and first.groups > 1:
            found.append((holder, first))
    return found


def _filter(network: nn.Module, where: int) -> tuple[nn.Sequential, nn.Conv2d]:
    filters = _filters(network)
    return filters[where % len(filters)]


def _blocks(network: nn.Module) -> tuple[nn.Sequential, list[int]]:
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    return features, list(range(1, len(features) - 1))


def _sizes(block: nn.Module) -> tuple[int, int, int]:
    """Channels that enter a block and leave it, and its stride."""
    convolutions = [one for one in block.modules() if isinstance(one, nn.Conv2d)]
    stride = max(one.stride[0] for one in convolutions)
    return convolutions[0].in_channels, convolutions[-1].out_channels, stride


def pad_filter(network: nn.Module, where: int) -> None:
    """Other zeros than the filter asks for."""
    _, conv = _filter(network, where)
    conv.padding = (where % 3, where % 3)


def pad_before(network: nn.Module, where: int) -> None:
    """Zeros in front of a whole block."""
    features, blocks = _blocks(network)
    index = blocks[where % len(blocks)]
    features[index] = Padded(features[index], (1, where % 2, 1, where % 2))


def one_sided_filter(network: nn.Module, where: int) -> None:
    """A filter of one row."""
    holder, conv = _filter(network, where)
    holder[0] = nn.Conv2d(conv.in_channels, conv.out_channels, (1, 3), conv.stride, (0, 1), groups=conv.groups)


def dilate(network: nn.Module, where: int) -> None:
    """A dilated filter, its zeros as before."""
    _, conv = _filter(network, where)
    conv.dilation = (2, 2)


def stride(network: nn.Module, where: int) -> None:
    """A stride where there is none, or none where there is one."""
    _, conv = _filter(network, where)
    conv.stride = (3 - conv.stride[0], 3 - conv.stride[0])


def pool_inside(network: nn.Module, where: int) -> None:
    """A maximum pool behind a filter."""
    holder, _ = _filter(network, where)
    holder.append(nn.MaxPool2d(3, 1 + where % 2, 1))


def enlarge(network: nn.Module, where: int) -> None:
    """An image, or a map, at twice the size."""
    features, blocks = _blocks(network)
    index = (0, blocks[where % len(blocks)])[where % 2]
    features[index] = Enlarged(features[index])


def side_way(network: nn.Module, where: int) -> None:
    """A shortcut of one to three convolutions around any block."""
    features, blocks = _blocks(network)
    index = blocks[where % len(blocks)]
    entering, leaving, step = _sizes(features[index])
    first = nn.Conv2d(entering, entering, 3, step, 1, groups=entering, bias=False)
    way = [first, nn.BatchNorm2d(entering), nn.Conv2d(entering, leaving, 1), nn.BatchNorm2d(leaving)]
    features[index] = Beside(features[index], nn.Sequential(*way, *[nn.Conv2d(leaving, leaving, 1)] * (where % 2)))


def pooled_side_way(network: nn.Module, where: int) -> None:
    """A shortcut through a pool and a convolution."""
    features, blocks = _blocks(network)
    index = blocks[where % len(blocks)]
    entering, leaving, step = _sizes(features[index])
    pool = nn.AvgPool2d(step, step, ceil_mode=True) if step > 1 else nn.Identity()
    features[index] = Beside(features[index], nn.Sequential(pool, nn.Conv2d(entering, leaving, 1), nn.Dropout(0.1)))


def gate(network: nn.Module, where: int) -> None:
    """Squeeze-and-excitation behind a filter."""
    holder, conv = _filter(network, where)
    holder.append(Gate(conv.out_channels, 8 + where % 5, norms=where % 2 == 0))


def bias(network: nn.Module, where: int) -> None:
    """A bias beside a norm."""
    _, conv = _filter(network, where)
    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))


def no_norm(network: nn.Module, where: int) -> None:
    """No norm behind a filter."""
    holder, _ = _filter(network, where)
    holder[1] = nn.Identity()


def other_norm(network: nn.Module, where: int) -> None:
    """Layer norm over one place of the map, or group norm, in place of batch norm."""
    holder, conv = _filter(network, where)
    holder[1] = nn.GroupNorm(1, conv.out_channels, affine=where % 2 == 0)


def repeat(network: nn.Module, where: int) -> None:
    """A block twice, the second time with weights of its own or the same ones."""
    features, blocks = _blocks(network)
    same = [index for index in blocks if len({*_sizes(features[index])[:2]}) == 1 and _sizes(features[index])[2] == 1]
    if same:
        index = same[where % len(same)]
        features.insert(index, features[index])


def drop(network: nn.Module, where: int) -> None:
    """A repeat left out."""
    features, blocks = _blocks(network)
    same = [index for index in blocks if len({*_sizes(features[index])[:2]}) == 1 and _sizes(features[index])[2] == 1]
    if same:
        del features[same[where % len(same)]]


def hidden_head(network: nn.Module, where: int) -> None:
    """A hidden layer of the user's own in front of the classifier."""
    classifier = network.get_submodule("classifier")
    assert isinstance(classifier, nn.Sequential)
    last = classifier[-1]
    assert isinstance(last, nn.Linear)
    inside = 64 + where % 7
    layers = [nn.Linear(last.in_features, inside), nn.BatchNorm1d(inside), nn.ReLU(), nn.Linear(inside, 10)]
    classifier[-1] = nn.Sequential(*layers)


MUTATIONS: tuple[Mutation, ...] = (
    pad_filter,
    pad_before,
    one_sided_filter,
    dilate,
    stride,
    pool_inside,
    enlarge,
    side_way,
    pooled_side_way,
    gate,
    bias,
    no_norm,
    other_norm,
    repeat,
    drop,
    hidden_head,
)
