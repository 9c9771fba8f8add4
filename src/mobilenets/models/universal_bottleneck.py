"""MobileNetV4's convolutional blocks: the universal inverted bottleneck, the fused one, and layer scale.

Source: Qin et al. 2024 (arXiv 2404.10518), section 3.1; the authors' code (TensorFlow Model Garden `mobilenet.py`).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mobilenets.errors import ModelError
from mobilenets.models.layers import Activation, ConvNormActivation, Norm, Padding

LAYER_SCALE_START = 1e-5


class LayerScale(nn.Module):
    """A learned factor for each channel, `[B, channels, H, W]` -> the same shape; it starts at 1e-5.

    At the start a residual branch hardly speaks, so that a deep network begins as a shallow one.
    Source: Touvron et al. 2021 (arXiv 2103.17239), section 2; in MobileNetV4 the hybrid networks have it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start anew, in place."""
        nn.init.constant_(self.gamma, LAYER_SCALE_START)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each channel of `x` by its factor."""
        return x * self.gamma[:, None, None]


class UniversalBottleneck(nn.Sequential):
    """(Depthwise,) expand 1x1, (depthwise,) project 1x1 without activation: the universal inverted bottleneck, UIB.

    `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`. Which of the two depthwise filters are there
    makes it one of four blocks: both, ExtraDW; the second, the inverted bottleneck of MobileNetV2; the first,
    ConvNext; none, a feed-forward network. Only the expansion and the second filter have an activation.
    Source: Qin et al. 2024 (arXiv 2404.10518), figure 4.

    Args:
        in_channels: channels of the narrow input.
        hidden_channels: channels of the wide inside; the expansion stays even where there is nothing to expand.
        out_channels: channels of the narrow output.
        start_kernel: of the depthwise filter before the expansion; None for a block without it.
        middle_kernel: of the depthwise filter after the expansion; None for a block without it.
        stride: of the second filter, of the first where there is no second. The shortcut needs stride 1 and equal
            channels, both.
        layer_scale: whether the branch ends in a `LayerScale`.
        norm: makes the normalization of a channel count.
        activation: makes the activation.
        padding: of the depthwise filters, `symmetric` or TensorFlow's `same`.

    Raises:
        ModelError: a stride, but no filter to take it.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        start_kernel: int | None,
        middle_kernel: int | None,
        stride: int,
        layer_scale: bool,
        norm: Norm,
        activation: Activation,
        padding: Padding = "symmetric",
    ) -> None:
        if stride > 1 and start_kernel is None and middle_kernel is None:
            raise ModelError(f"a bottleneck without depthwise filters can't have stride {stride}: give it a kernel")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if start_kernel is not None:
            layers["start_depthwise"] = ConvNormActivation(
                in_channels,
                in_channels,
                kernel=start_kernel,
                stride=stride if middle_kernel is None else 1,
                groups=in_channels,
                norm=norm,
                activation=None,
                padding=padding,
            )
        layers["expand"] = ConvNormActivation(in_channels, hidden_channels, norm=norm, activation=activation)
        if middle_kernel is not None:
            layers["middle_depthwise"] = ConvNormActivation(
                hidden_channels,
                hidden_channels,
                kernel=middle_kernel,
                stride=stride,
                groups=hidden_channels,
                norm=norm,
                activation=activation,
                padding=padding,
            )
        layers["project"] = ConvNormActivation(hidden_channels, out_channels, norm=norm, activation=None)
        if layer_scale:
            layers["layer_scale"] = LayerScale(out_channels)
        super().__init__(layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_channels, H, W]` to `[B, out_channels, ceil(H/s), ceil(W/s)]`."""
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # In place is safe: batch norm and layer scale keep their inputs for the backward pass, not their outputs.
        return out.add_(x) if self.has_shortcut else out


class FusedBottleneck(nn.Sequential):
    """A full convolution that expands and filters at once, then a 1x1 projection without activation: FusedIB.

    `[B, in_channels, H, W]` -> `[B, out_channels, ceil(H/s), ceil(W/s)]`. On the few channels of the first, largest
    maps it is faster than a depthwise filter. The papers' rows all have a stride, so there is no shortcut.
    Source: Qin et al. 2024 (arXiv 2404.10518), section 4; Gupta & Akin 2020 (arXiv 2003.02838).

    Args:
        in_channels: channels of the input.
        hidden_channels: channels of the wide inside.
        out_channels: channels of the output.
        kernel: of the expanding convolution.
        stride: of the expanding convolution.
        norm: makes the normalization of a channel count.
        activation: makes the activation after the expansion.
        padding: of the expanding convolution, `symmetric` or TensorFlow's `same`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        norm: Norm,
        activation: Activation,
        padding: Padding = "symmetric",
    ) -> None:
        expand = ConvNormActivation(
            in_channels,
            hidden_channels,
            kernel=kernel,
            stride=stride,
            norm=norm,
            activation=activation,
            padding=padding,
        )
        project = ConvNormActivation(hidden_channels, out_channels, norm=norm, activation=None)
        super().__init__(OrderedDict(expand=expand, project=project))
