"""MobileNetV3-Small with its activations written out: the gate, the squeeze and the last layers are not the paper's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gate(x: Tensor) -> Tensor:
    """A hard sigmoid, but of slope 1/2."""
    return ((x + 1) / 2).clamp(0, 1)


def swish(x: Tensor) -> Tensor:
    """h-swish, as the paper has it."""
    return x * (x + 3).clamp(min=0, max=6) / 6


def rect(x: Tensor) -> Tensor:
    """ReLU."""
    return torch.where(x > 0, x, torch.zeros_like(x))


class Filter(nn.Module):
    """Convolution and batch norm with the paper's eps and momentum."""

    def __init__(self, a: int, b: int, k: int, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(a, b, k, s, k // 2, groups=g, bias=False)
        self.scale = nn.BatchNorm2d(b, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Both."""
        return self.scale(self.kernel(x))


class Cell(nn.Module):
    """A bneck. The squeeze is a quarter of the block's input, not of its hidden width."""

    def __init__(self, a: int, k: int, hidden: int, b: int, se: bool, hs: bool, s: int) -> None:
        super().__init__()
        self.wide = Filter(a, hidden, 1) if hidden != a else None
        self.deep = Filter(hidden, hidden, k, s, hidden)
        self.down = nn.Conv2d(hidden, max(a // 4, 8), 1) if se else None
        self.up = nn.Conv2d(max(a // 4, 8), hidden, 1) if se else None
        self.thin = Filter(hidden, b, 1)
        self.act = swish if hs else rect
        self.same = a == b and s == 1

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter, weigh, project, add."""
        y = x if self.wide is None else self.act(self.wide(x))
        y = self.act(self.deep(y))
        if self.down is not None and self.up is not None:
            y = y * gate(self.up(rect(self.down(y.mean((2, 3), keepdim=True)))))
        y = self.thin(y)
        return x + y if self.same else y


class SmallNet(nn.Module):
    """Table 2 of the paper; a batch norm follows the linear layer of the head, and the head is Large's 1280 wide."""

    ROWS = (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    )

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.first = Filter(3, 16, 3, 2)
        cells, a = [], 16
        for k, hidden, b, se, hs, s in self.ROWS:
            cells.append(Cell(a, k, hidden, b, se, hs, s))
            a = b
        self.cells = nn.Sequential(*cells)
        self.last = Filter(96, 576, 1)
        self.mix = nn.Sequential(nn.Linear(576, 1280), nn.BatchNorm1d(1280))
        self.answer = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = swish(self.last(self.cells(swish(self.first(x)))))
        return self.answer(swish(self.mix(x.mean((2, 3)))))
