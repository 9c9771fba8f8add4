"""MobileNetV4's attention: Mobile MQA, many queries that share one set of keys and values.

Source: Qin et al. 2024 (arXiv 2404.10518), section 3.2; Shazeer 2019 (arXiv 1911.02150). The layers are those of the
authors' code (TensorFlow Model Garden `nn_layers.py`, `nn_blocks.py`): projections are 1x1 convolutions without bias.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mobilenets.models.layers import ConvNormActivation, Norm, Padding
from mobilenets.models.universal_bottleneck import LayerScale

DOWNSAMPLE_KERNEL = 3


class MultiQueryAttention(nn.Module):
    """Each place asks `heads` queries of all places: `[B, channels, H, W]` -> `[B, channels, H, W]`.

    softmax(q k / sqrt(head_channels)) v, where the heads differ in q only. With `kv_stride` above 1, keys and values
    come from a depthwise convolution's smaller map. Maps of any size will do, down to 1x1.

    Args:
        channels: of input and output.
        heads: queries of each place.
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
        """Start every convolution with Glorot's uniform weights, in place: Keras' own, which the authors' code keeps.

        No batch norm follows the projections to undo a start of another size.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, channels, H, W]` to the same shape.

        In the shapes below N places ask, M places answer (fewer with a `kv_stride`), and D are a head's channels.
        """
        # The heads' queries in one column, as if more places asked: shared keys need not be copied for each head, and
        # both products are plain matrix products.
        queries = torch.unflatten(self.query(x).flatten(2), 1, (self.heads, -1))  # [B, heads, D, N]
        queries = queries.transpose(2, 3).flatten(1, 2)  # [B, heads * N, D]
        keys = self.key(x).flatten(2)  # [B, D, M]
        values = self.value(x).flatten(2).transpose(1, 2)  # [B, M, D]
        weights = torch.softmax(torch.bmm(queries * self.scale, keys), dim=-1)  # [B, heads * N, M]
        answers = torch.unflatten(torch.bmm(weights, values), 1, (self.heads, -1))  # [B, heads, N, D]
        answers = answers.transpose(2, 3).flatten(1, 2)  # [B, heads * D, N]
        mixed: Tensor = self.output(torch.unflatten(answers, 2, x.shape[2:]))
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
    the depthwise filters around it tell places apart.

    Args:
        channels: of input and output.
        heads: queries of each place.
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
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # In place is safe: neither convolution nor layer scale keeps its output for the backward pass.
        return out.add_(x)
