"""The layers the networks share: rounding, padding, conv-norm-activation, squeeze-and-excitation, normalization."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilenets.errors import ModelError
from mobilenets.preprocessing import Preprocessing

Padding = Literal["symmetric", "same"]
"""Where a convolution's zeros go: as many on both sides (PyTorch), or as TensorFlow's SAME, the odd one last."""
PADDINGS: tuple[str, ...] = get_args(Padding)
MAX_NORM_EPS = 0.1
"""A hundred times the largest in use (TensorFlow's 1e-3); catches a momentum given for an eps."""

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


def check_padding(padding: object) -> Padding:
    """Return `padding` when it is one; builders take it as text.

    Raises:
        ModelError: it is unknown; the message lists the valid ones.
    """
    if padding == "symmetric":
        return "symmetric"
    if padding == "same":
        return "same"
    raise ModelError(f"there is no padding {padding!r}: choose one of {', '.join(PADDINGS)}")


def batch_norm(*, eps: object, momentum: float) -> Norm:
    """Make the batch norm of a paper's code, with the eps of the weights it is for.

    Raises:
        ModelError: eps is not a number above 0, at most 0.1.
    """
    if isinstance(eps, bool) or not isinstance(eps, Real) or not 0 < float(eps) <= MAX_NORM_EPS:
        valid = f"a number above 0, at most {MAX_NORM_EPS:g} (1e-5 and 1e-3 are in use)"
        raise ModelError(f"norm_eps is {eps!r}: it must be {valid}")
    return partial(nn.BatchNorm2d, eps=float(eps), momentum=momentum)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side of `size` pixels so that ceil(size / stride) come out, the odd one after.

    Source: TensorFlow's documentation of `tf.nn.convolution`, padding SAME. At stride 2 and an even size that is one
    zero less in front than symmetric padding puts there: the whole filter grid moves by a pixel.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """`[..., H, W]` with the zeros of `same_padding` around it, for a convolution of this kernel and stride."""
    top, bottom = same_padding(x.shape[-2], kernel[0], stride[0])
    left, right = same_padding(x.shape[-1], kernel[1], stride[1])
    return F.pad(x, (left, right, top, bottom))


# One node of a graph traced by torch.fx, which follows no arithmetic on sizes.
torch.fx.wrap("pad_same")


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME, from the size of the images it is given; same tensors as `Conv2d`.

    The size is read as a plain number, so an exported graph holds a constant padding for its input size.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map `[B, in_channels, H, W]` to `[B, out_channels, ceil(H/s), ceil(W/s)]`."""
        padded = pad_same(input, (self.kernel_size[0], self.kernel_size[1]), (self.stride[0], self.stride[1]))
        # Not `super().forward`, which torch.jit.script can't compile.
        return F.conv2d(padded, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvNormActivation(nn.Sequential):
    """Convolution, batch norm, activation: `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`.

    Padding follows from the (odd) kernel, so that only the stride changes the size; `padding` says where it goes. The
    convolution has a bias only when nothing normalizes it: batch norm would subtract it again. `activation=None` leaves
    the output linear.
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
        padding: Padding = "symmetric",
    ) -> None:
        # At stride 1 the two paddings are one, and so is a 1x1 kernel's, which has none.
        differs = padding == "same" and kernel > 1 and stride > 1
        convolution = SameConv2d if differs else nn.Conv2d
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = convolution(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=0 if differs else (kernel - 1) // 2,
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


class Normalizer(nn.Module):
    """uint8 [B, H, W, C] -> float32 [B, C, H, W], scaled to [0, 1], minus mean, over standard deviation.

    The numeric half of preprocessing, for training and for the inside of exported graphs. It gives the same figures as
    `Preprocessing.normalize`, which serves programs without PyTorch.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # One multiplication and one addition a value: (x / 255 - mean) / std = x * scale + shift.
        self.register_buffer("scale", (1 / (255 * std)).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [B, H, W, C] -> float32 [B, C, H, W] (channels-last in memory).

        Cast before they are rearranged: an exported graph does the same, and TensorRT lets a uint8 input feed nothing
        but a cast (NVIDIA/TensorRT#3985).
        """
        return images.to(torch.float32).permute(0, 3, 1, 2) * self.scale + self.shift

    def batch(self, images: Tensor) -> Tensor:
        """The very values of `forward`, for less time and memory; its operations are not for a graph to be exported.

        A line of pixels at a time: over channels alone a processor multiplies three numbers at once, not sixteen.
        """
        batch, height, width, channels = images.shape
        lines = images.reshape(batch, height, width * channels).to(torch.float32)
        lines.mul_(self.scale.flatten().repeat(width)).add_(self.shift.flatten().repeat(width))
        return lines.view(batch, height, width, channels).permute(0, 3, 1, 2)


class DepthwiseSeparable(nn.Sequential):
    """A depthwise 3x3 filter per channel, then a pointwise 1x1 mix; each with batch norm and activation.

    `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`.
    Source: Howard et al. 2017 (arXiv 1704.04861), figure 3, right.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        norm: Norm,
        activation: Activation,
        padding: Padding = "symmetric",
    ) -> None:
        depthwise = ConvNormActivation(
            in_channels,
            in_channels,
            kernel=3,
            stride=stride,
            groups=in_channels,
            norm=norm,
            activation=activation,
            padding=padding,
        )
        pointwise = ConvNormActivation(in_channels, out_channels, norm=norm, activation=activation)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))


class InvertedResidual(nn.Sequential):
    """Expand 1x1, filter depthwise, (squeeze-and-excite,) project 1x1 without activation: a linear bottleneck.

    `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`.
    Source: Sandler et al. 2018 (arXiv 1801.04381), table 1; with SE Howard et al. 2019 (arXiv 1905.02244), figure 4.

    Args:
        in_channels: channels of the narrow input.
        hidden_channels: channels of the wide inside; equal to `in_channels` there is nothing to expand, and no layer.
        out_channels: channels of the narrow output.
        kernel: depthwise kernel size, 3 or 5.
        stride: of the depthwise convolution. The shortcut needs stride 1 and equal channels, both.
        squeeze_channels: width inside squeeze-and-excitation; None for a block without it.
        norm: makes the normalization of a channel count.
        activation: makes the activation after expansion and depthwise filter.
        padding: of the depthwise convolution, `symmetric` or TensorFlow's `same`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        squeeze_channels: int | None,
        norm: Norm,
        activation: Activation,
        padding: Padding = "symmetric",
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if hidden_channels != in_channels:
            layers["expand"] = ConvNormActivation(in_channels, hidden_channels, norm=norm, activation=activation)
        layers["depthwise"] = ConvNormActivation(
            hidden_channels,
            hidden_channels,
            kernel=kernel,
            stride=stride,
            groups=hidden_channels,
            norm=norm,
            activation=activation,
            padding=padding,
        )
        if squeeze_channels is not None:
            layers["squeeze_excite"] = SqueezeExcitation(hidden_channels, squeeze_channels)
        layers["project"] = ConvNormActivation(hidden_channels, out_channels, norm=norm, activation=None)
        super().__init__(layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_channels, H, W]` to `[B, out_channels, ceil(H/s), ceil(W/s)]`."""
        out = x
        for layer in self:  # not `super().forward`, which torch.jit.script can't compile
            out = layer(out)
        # In place is safe: the last batch norm keeps its input for the backward pass, not its output.
        return out.add_(x) if self.has_shortcut else out
