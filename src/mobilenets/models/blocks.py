"""The papers' building blocks: depthwise separable convolution (V1), inverted residual (V2, with SE in V3)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from mobilenets.models.layers import Activation, ConvNormActivation, Norm, Padding, SqueezeExcitation


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
