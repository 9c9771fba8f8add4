"""The layers the MobileNet papers share: channel rounding, conv-norm-activation, squeeze-and-excitation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

Activation = Callable[[], nn.Module]
Norm = Callable[[int], nn.Module]

# ReLU and ReLU6 need only their result for the backward pass, so working in place saves a tensor for nothing.
relu: Activation = partial(nn.ReLU, inplace=True)
relu6: Activation = partial(nn.ReLU6, inplace=True)
# h-swish needs its input there: in place, autograd copies it first, which saves nothing and costs a copy.
hard_swish: Activation = nn.Hardswish


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to the nearest multiple of `divisor`, but never more than 10 % down.

    At least `divisor`; halves go up: 28 -> 32, 12 -> 16, 56 -> 56. Source: the papers' code (TF-slim
    `mobilenet.py`); the papers themselves do not state the rule, every published count obeys it.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNormActivation(nn.Sequential):
    """Convolution, batch norm, activation: `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`.

    Padding follows from the (odd) kernel, so that only the stride changes the size. The convolution has a bias only
    when nothing normalizes it: batch norm would subtract it again. `activation=None` leaves the output linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: Norm | None = nn.BatchNorm2d,
        activation: Activation | None = relu,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            bias=norm is None,
        )
        if norm is not None:
            layers["norm"] = norm(out_channels)
        if activation is not None:
            layers["activation"] = activation()
        super().__init__(layers)


class SqueezeExcitation(nn.Module):
    """Channel attention: `[B, channels, H, W]` times a gate `[B, channels, 1, 1]` computed from its spatial mean.

    ReLU inside, h-sigmoid as the gate. Source: Howard et al. 2019 (arXiv 1905.02244), section 5.3; the paper's code.
    """

    def __init__(self, channels: int, squeeze_channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeeze_channels, 1)
        self.activation = relu()
        self.expand = nn.Conv2d(squeeze_channels, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of `x` by its gate in [0, 1]."""
        gate: Tensor = self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))
        # Not in place: the backward pass needs both factors.
        return x * gate
