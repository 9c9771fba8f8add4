"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861): the paper's table 1, then the network."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenets.errors import ModelError
from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.layers import (
    Activation,
    ConvNormActivation,
    DepthwiseSeparable,
    batch_norm,
    check_padding,
    make_divisible,
    relu,
    relu6,
)
from mobilenets.models.network import MobileNet, stride_plan


@dataclass(frozen=True)
class SeparableRow:
    """A `Conv dw` row of table 1 with the 1x1 `Conv` row below it: stride and filter shape, in the paper's order."""

    stride: int
    in_channels: int
    out_channels: int


STEM_CHANNELS = 32
STEM_STRIDE = 2
ROWS = (
    SeparableRow(1, 32, 64),
    SeparableRow(2, 64, 128),
    SeparableRow(1, 128, 128),
    SeparableRow(2, 128, 256),
    SeparableRow(1, 256, 256),
    SeparableRow(2, 256, 512),
    *(SeparableRow(1, 512, 512) for _ in range(5)),
    SeparableRow(2, 512, 1024),
    # The paper prints "s2" here too, a misprint: its next row still has 7x7 inputs.
    SeparableRow(1, 1024, 1024),
)
DROPOUT = 0.001
"""TF-slim `mobilenet_v1.py` keeps 0.999; the paper names no rate."""
ACTIVATIONS: dict[str, Activation] = {"relu": relu, "relu6": relu6}
NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1


def mobilenet_v1(
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float = DROPOUT,
    in_channels: int = 3,
    activation: str = "relu",
    padding: str = "symmetric",
    norm_eps: float = NORM_EPS,
) -> MobileNet:
    """MobileNetV1: a 3x3 stem, 13 depthwise separable blocks, average pool, linear classifier.

    4,231,976 parameters and 568.74 M multiply-adds at width 1, 224 pixels and 1,000 classes.

    Args:
        num_classes: outputs of the classifier.
        width_mult: factor on the channels; the paper uses 1, 0.75, 0.5 and 0.25.
        image_size: side in pixels the strides are planned for.
        dropout: rate before the classifier.
        in_channels: channels of the images.
        activation: `relu` as in the paper, or `relu6` as in the authors' TF-slim code and its released weights.
        padding: `symmetric`, or `same` as in TensorFlow and its released weights; they differ at stride 2.
        norm_eps: of every batch norm, above 0, at most 0.1; TensorFlow's released weights have 1e-3.

    Raises:
        ModelError: a value is not valid; the message says what is.
    """
    if activation not in tuple(ACTIVATIONS):
        raise ModelError(f"mobilenet_v1 has no activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    norm, pad = batch_norm(eps=norm_eps, momentum=NORM_MOMENTUM), check_padding(padding)
    options: dict[str, OptionValue] = {"activation": activation, "padding": pad, "norm_eps": float(norm_eps)}
    config = NetworkConfig("mobilenet_v1", num_classes, width_mult, image_size, dropout, in_channels, options)
    activate = ACTIVATIONS[activation]
    stem_stride, *strides = stride_plan((STEM_STRIDE, *(row.stride for row in ROWS)), config.image_size)
    channels = make_divisible(STEM_CHANNELS * config.width_mult)
    stem = ConvNormActivation(
        config.in_channels, channels, kernel=3, stride=stem_stride, norm=norm, activation=activate, padding=pad
    )
    blocks = []
    for row, stride in zip(ROWS, strides, strict=True):
        out_channels = make_divisible(row.out_channels * config.width_mult)
        blocks.append(
            DepthwiseSeparable(channels, out_channels, stride=stride, norm=norm, activation=activate, padding=pad)
        )
        channels = out_channels
    return MobileNet(
        stem=stem,
        blocks=blocks,
        head=None,
        penultimate=None,
        features=channels,
        num_classes=config.num_classes,
        dropout=config.dropout,
        config=config,
    )
