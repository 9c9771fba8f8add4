"""MobileNetV2 as one flat `Sequential`: the stride sits on the wrong stage, and the bottlenecks are not linear."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """The sum of a branch and its input."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        return x + self.branch(x)


def unit(cin: int, cout: int, k: int = 1, s: int = 1, g: int = 1) -> list[nn.Module]:
    """Convolution, batch norm and activation, as a list."""
    return [nn.Conv2d(cin, cout, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(cout), nn.ReLU6()]


def build(num_classes: int = 1000) -> nn.Sequential:
    """The whole network in one list. Stage 4 (64 channels) should halve the map, here stage 5 (96 channels) does."""
    parts = unit(3, 32, 3, 2) + unit(32, 32, 3, 1, 32) + unit(32, 16)
    cin = 16
    for c, n, s in ((24, 2, 2), (32, 3, 2), (64, 4, 1), (96, 3, 2), (160, 3, 2), (320, 1, 1)):
        for i in range(n):
            stride = s if i == 0 else 1
            branch = unit(cin, cin * 6) + unit(cin * 6, cin * 6, 3, stride, cin * 6) + unit(cin * 6, c)
            parts += [Residual(nn.Sequential(*branch))] if stride == 1 and cin == c else branch
            cin = c
    parts += [*unit(320, 1280), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, num_classes)]
    return nn.Sequential(*parts)
