"""MobileNetV4 (Qin et al. 2024, arXiv 2404.10518): the networks of the tables in `mobilenet_v4_tables`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.layers import (
    ConvNormActivation,
    Norm,
    Padding,
    batch_norm,
    check_padding,
    make_divisible,
)
from mobilenets.models.mobilenet_v4_blocks import FusedBottleneck, MobileAttention, UniversalBottleneck
from mobilenets.models.mobilenet_v4_tables import (
    CONV_LARGE,
    CONV_MEDIUM,
    CONV_SMALL,
    HYBRID_LARGE,
    HYBRID_MEDIUM,
    ConvRow,
    FusedIBRow,
    MobileMQARow,
    V4Row,
    V4Table,
)
from mobilenets.models.network import MobileNet, stride_plan

STEM_STRIDE = 2
HEAD_CHANNELS = 960
PENULTIMATE_CHANNELS = 1280
SMALL_DROPOUT, DROPOUT = 0.3, 0.2
SMALL_NORM_EPS, NORM_EPS = 1e-6, 1e-3
"""Of the authors' experiments (TensorFlow Model Garden `imagenet_mobilenetv4_*_tpu.yaml`), as the dropout above."""


class PooledConv(ConvNormActivation):
    """The 1x1 convolution after the pool, with norm and activation: `[B, in_channels]` -> `[B, out_channels]`.

    A linear layer in effect. It stays the paper's convolution, so that whoever folds batch norm into convolutions
    folds this one too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_channels]` to `[B, out_channels]`."""
        x = x[:, :, None, None]
        for layer in self:
            x = layer(x)
        return x.flatten(1)


def mobilenet_v4(
    table: V4Table,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float = DROPOUT,
    in_channels: int = 3,
    padding: str = "symmetric",
    norm_eps: float = NORM_EPS,
) -> MobileNet:
    """The network of one of the tables; the named forms at the end of this file are this function with their table.

    Args:
        table: one of those in `mobilenet_v4_tables`.
        num_classes: outputs of the classifier.
        width_mult: factor on the channels. Below 1 the stem and the penultimate 1,280 keep their width, as in timm's
            0.35, 0.5 and 0.75 forms; above 1 both grow. The heads of attention keep their number and channels.
        image_size: side in pixels the strides are planned for; 224 as in every network here, though the paper's
            medium networks are for 256 and its large ones for 384.
        dropout: rate before the classifier.
        in_channels: channels of the images.
        padding: `symmetric`, or `same` as in TensorFlow; they differ at stride 2.
        norm_eps: of every batch norm, above 0, at most 0.1; timm's released weights have 1e-5.

    Raises:
        ModelError: a value is not valid; the message says what is.
    """
    norm, pad = batch_norm(eps=norm_eps, momentum=table.norm_momentum), check_padding(padding)
    options: dict[str, OptionValue] = {"padding": pad, "norm_eps": float(norm_eps)}
    config = NetworkConfig(table.name, num_classes, width_mult, image_size, dropout, in_channels, options)
    stem_stride, *strides = stride_plan((STEM_STRIDE, *(row.stride for row in table.rows)), config.image_size)
    # As in timm's narrow networks, some with published weights: the stem and the penultimate layer don't shrink.
    grown = max(1.0, config.width_mult)
    stem_channels = make_divisible(table.rows[0].in_channels * grown)
    last_channels = make_divisible(table.rows[-1].out_channels * config.width_mult)
    head_channels = make_divisible(HEAD_CHANNELS * config.width_mult)
    features = make_divisible(PENULTIMATE_CHANNELS * grown)
    return MobileNet(
        stem=ConvNormActivation(
            config.in_channels,
            stem_channels,
            kernel=3,
            stride=stem_stride,
            norm=norm,
            activation=table.activation,
            padding=pad,
        ),
        blocks=_blocks(table, strides, stem_channels, config.width_mult, norm, pad),
        head=ConvNormActivation(last_channels, head_channels, norm=norm, activation=table.activation),
        penultimate=PooledConv(head_channels, features, norm=norm, activation=table.activation),
        features=features,
        num_classes=config.num_classes,
        dropout=config.dropout,
        config=config,
    )


def _blocks(
    table: V4Table, strides: Sequence[int], channels: int, width_mult: float, norm: Norm, padding: Padding
) -> list[nn.Module]:
    blocks = []
    for row, stride in zip(table.rows, strides, strict=True):
        out_channels = make_divisible(row.out_channels * width_mult)
        blocks.append(_block(table, row, channels, out_channels, stride, norm, padding))
        channels = out_channels
    return blocks


def _block(
    table: V4Table, row: V4Row, channels: int, out_channels: int, stride: int, norm: Norm, padding: Padding
) -> nn.Module:
    if isinstance(row, ConvRow):
        return ConvNormActivation(
            channels,
            out_channels,
            kernel=row.kernel,
            stride=stride,
            norm=norm,
            activation=table.activation,
            padding=padding,
        )
    if isinstance(row, MobileMQARow):
        return MobileAttention(
            channels,
            heads=row.heads,
            head_channels=row.head_channels,
            kv_stride=row.kv_stride,
            layer_scale=table.layer_scale,
            norm=norm,
            padding=padding,
        )
    # The expanded dim is a ratio of the unscaled input, applied to the scaled one.
    hidden_channels = make_divisible(channels * row.hidden_channels / row.in_channels)
    if isinstance(row, FusedIBRow):
        return FusedBottleneck(
            channels,
            hidden_channels,
            out_channels,
            kernel=row.kernel,
            stride=stride,
            norm=norm,
            activation=table.activation,
            padding=padding,
        )
    return UniversalBottleneck(
        channels,
        hidden_channels,
        out_channels,
        start_kernel=row.start_kernel,
        middle_kernel=row.middle_kernel,
        stride=stride,
        layer_scale=table.layer_scale,
        norm=norm,
        activation=table.activation,
        padding=padding,
    )


mobilenet_v4_conv_small = partial(mobilenet_v4, CONV_SMALL, dropout=SMALL_DROPOUT, norm_eps=SMALL_NORM_EPS)
"""MNv4-Conv-S: 3,774,024 parameters, 186.01 M multiply-adds at 224 (the paper's size) and 1,000 classes."""
mobilenet_v4_conv_medium = partial(mobilenet_v4, CONV_MEDIUM)
"""MNv4-Conv-M: 9,715,512 parameters, 1,080.24 M multiply-adds at the paper's 256."""
mobilenet_v4_conv_large = partial(mobilenet_v4, CONV_LARGE)
"""MNv4-Conv-L: 32,590,864 parameters, 6,376.22 M multiply-adds at the paper's 384."""
mobilenet_v4_hybrid_medium = partial(mobilenet_v4, HYBRID_MEDIUM)
"""MNv4-Hybrid-M: 11,074,648 parameters, 1,271.18 M multiply-adds at the paper's 256."""
mobilenet_v4_hybrid_large = partial(mobilenet_v4, HYBRID_LARGE)
"""MNv4-Hybrid-L: 37,764,624 parameters, 7,711.88 M multiply-adds at the paper's 384."""
