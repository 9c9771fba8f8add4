"""MobileNetV4's blocks: universal and fused bottleneck, layer scale, and Mobile MQA, its attention.

Source: Qin et al. 2024 (arXiv 2404.10518), sections 3.1 and 3.2; Shazeer 2019 (arXiv 1911.02150). The layers are those
of the authors' code (TensorFlow Model Garden `mobilenet.py`, `nn_layers.py`, `nn_blocks.py`).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mobilenets.errors import ModelError
from mobilenets.models.layers import Activation, ConvNormActivation, Norm, Padding

LAYER_SCALE_START = 1e-5
DOWNSAMPLE_KERNEL = 3


class LayerScale(nn.Module):
    """A learned factor for each channel, `[B, channels, H, W]` -> the same shape; it starts at 1e-5.

    At the start a residual branch adds almost nothing, so that a deep network behaves as a shallow one.
    Source: Touvron et al. 2021 (arXiv 2103.17239), section 2; in MobileNetV4 the hybrid networks have it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every factor to 1e-5, in place."""
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
        ModelError: a stride, but no filter that has it.
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
        out = x
        for layer in self:  # not `super().forward`, which torch.jit.script can't compile
            out = layer(out)
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


class MultiQueryAttention(nn.Module):
    """Attention with one set of keys and values for all heads: `[B, channels, H, W]` -> `[B, channels, H, W]`.

    softmax(q k / sqrt(head_channels)) v, where the heads differ in q only. With `kv_stride` above 1, keys and values
    come from a depthwise convolution's smaller map. Maps of any size will do, down to 1x1.

    Args:
        channels: of input and output.
        heads: queries of each position.
        head_channels: channels of a query, of a key and of a value.
        kv_stride: how much smaller the map of keys and values is, on each side; 1 keeps its size and has no filter.
        norm: makes the normalization of a channel count.
        padding: of the depthwise filter, `symmetric` or TensorFlow's `same`.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        head_channels: int,
        kv_stride: int,
        norm: Norm,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = head_channels**-0.5
        self.query = nn.Conv2d(channels, heads * head_channels, 1, bias=False)
        self.key = _key_or_value(channels, head_channels, kv_stride, norm, padding)
        self.value = _key_or_value(channels, head_channels, kv_stride, norm, padding)
        self.output = nn.Conv2d(heads * head_channels, channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start every convolution with Glorot's uniform weights, in place: Keras' default, as in the authors' code.

        No batch norm follows the projections to undo a start of another size.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, channels, H, W]` to the same shape.

        In the shapes below N positions have queries, M have keys and values (fewer with a `kv_stride`), and D are a
        head's channels.
        """
        # The heads' queries in one column, as if there were more positions: shared keys need not be copied for each
        # head, and both products are plain matrix products.
        queries = torch.unflatten(self.query(x).flatten(2), 1, (self.heads, -1))  # [B, heads, D, N]
        queries = queries.transpose(2, 3).flatten(1, 2)  # [B, heads * N, D]
        keys = self.key(x).flatten(2)  # [B, D, M]
        values = self.value(x).flatten(2).transpose(1, 2)  # [B, M, D]
        weights = torch.softmax(torch.bmm(queries * self.scale, keys), dim=-1)  # [B, heads * N, M]
        heads = torch.unflatten(torch.bmm(weights, values), 1, (self.heads, -1))  # [B, heads, N, D]
        heads = heads.transpose(2, 3).flatten(1, 2)  # [B, heads * D, N]
        mixed: Tensor = self.output(torch.unflatten(heads, 2, x.shape[2:]))
        return mixed


def _key_or_value(channels: int, head_channels: int, stride: int, norm: Norm, padding: Padding) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        layers["downsample"] = ConvNormActivation(
            channels,
            channels,
            kernel=DOWNSAMPLE_KERNEL,
            stride=stride,
            groups=channels,
            norm=norm,
            activation=None,
            padding=padding,
        )
    layers["project"] = nn.Conv2d(channels, head_channels, 1, bias=False)
    return nn.Sequential(layers)


class MobileAttention(nn.Sequential):
    """Norm, attention and layer scale around a shortcut: `[B, channels, H, W]` -> `[B, channels, H, W]`.

    Source: Qin et al. 2024 (arXiv 2404.10518), section 3.2: the "Mobile-MQA" rows. There is no positional encoding:
    the depthwise filters around it encode position.

    Args:
        channels: of input and output.
        heads: queries of each position.
        head_channels: channels of a query, of a key and of a value.
        kv_stride: how much smaller the map of keys and values is, on each side.
        layer_scale: whether the branch ends in a `LayerScale`.
        norm: makes the normalization of a channel count.
        padding: of the convolution that makes that map smaller, `symmetric` or TensorFlow's `same`.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        head_channels: int,
        kv_stride: int,
        layer_scale: bool,
        norm: Norm,
        padding: Padding = "symmetric",
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["norm"] = norm(channels)
        layers["attention"] = MultiQueryAttention(
            channels, heads=heads, head_channels=head_channels, kv_stride=kv_stride, norm=norm, padding=padding
        )
        if layer_scale:
            layers["layer_scale"] = LayerScale(channels)
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, channels, H, W]` to the same shape."""
        out = x
        for layer in self:  # not `super().forward`, which torch.jit.script can't compile
            out = layer(out)
        # In place is safe: neither convolution nor layer scale keeps its output for the backward pass.
        return out.add_(x)
