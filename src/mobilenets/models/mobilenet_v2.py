"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381): the paper's table 2, then the network."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.layers import (
    ConvNormActivation,
    InvertedResidual,
    batch_norm,
    check_padding,
    make_divisible,
    relu6,
)
from mobilenets.models.network import MobileNet, stride_plan


@dataclass(frozen=True)
class StageRow:
    """A `bottleneck` row of table 2 in the paper's order: t, c, n, s."""

    expand_ratio: int
    out_channels: int
    repeats: int
    stride: int

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each repeat: only the first block of a stage has the row's."""
        return (self.stride, *(1 for _ in range(self.repeats - 1)))


STEM_CHANNELS = 32
STEM_STRIDE = 2
ROWS = (
    StageRow(1, 16, 1, 1),
    StageRow(6, 24, 2, 2),
    StageRow(6, 32, 3, 2),
    StageRow(6, 64, 4, 2),
    StageRow(6, 96, 3, 1),
    StageRow(6, 160, 3, 2),
    StageRow(6, 320, 1, 1),
)
HEAD_CHANNELS = 1280
DROPOUT = 0.2
"""TF-slim `mobilenet.py` keeps 0.8 in training; the paper names no rate."""
NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1


def mobilenet_v2(
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float = DROPOUT,
    in_channels: int = 3,
    padding: str = "symmetric",
    norm_eps: float = NORM_EPS,
) -> MobileNet:
    """MobileNetV2: a 3x3 stem, 17 inverted residuals, a 1x1 head, average pool, linear classifier.

    3,504,872 parameters and 300.77 M multiply-adds at width 1, 224 pixels and 1,000 classes.

    Args:
        num_classes: outputs of the classifier.
        width_mult: factor on the channels; the paper uses 0.35 to 1.4. The head does not shrink below 1,280.
        image_size: side in pixels the strides are planned for.
        dropout: rate before the classifier.
        in_channels: channels of the images.
        padding: `symmetric`, or `same` as in TensorFlow and its released weights; they differ at stride 2.
        norm_eps: of every batch norm, above 0, at most 0.1; TensorFlow's released weights have 1e-3.

    Raises:
        ModelError: a value is not valid; the message says what is.
    """
    norm, pad = batch_norm(eps=norm_eps, momentum=NORM_MOMENTUM), check_padding(padding)
    options: dict[str, OptionValue] = {"padding": pad, "norm_eps": float(norm_eps)}
    config = NetworkConfig("mobilenet_v2", num_classes, width_mult, image_size, dropout, in_channels, options)
    planned = stride_plan((STEM_STRIDE, *(stride for row in ROWS for stride in row.strides)), config.image_size)
    strides = iter(planned)
    channels = make_divisible(STEM_CHANNELS * config.width_mult)
    stem = ConvNormActivation(
        config.in_channels, channels, kernel=3, stride=next(strides), norm=norm, activation=relu6, padding=pad
    )
    blocks = []
    for row in ROWS:
        out_channels = make_divisible(row.out_channels * config.width_mult)
        for _ in range(row.repeats):
            blocks.append(
                InvertedResidual(
                    channels,
                    # The hidden width follows the input's channels, not the output's.
                    channels * row.expand_ratio,
                    out_channels,
                    kernel=3,
                    stride=next(strides),
                    squeeze_channels=None,
                    norm=norm,
                    activation=relu6,
                    padding=pad,
                )
            )
            channels = out_channels
    head_channels = make_divisible(HEAD_CHANNELS * max(1.0, config.width_mult))
    return MobileNet(
        stem=stem,
        blocks=blocks,
        head=ConvNormActivation(channels, head_channels, norm=norm, activation=relu6),
        penultimate=None,
        features=head_channels,
        num_classes=config.num_classes,
        dropout=config.dropout,
        config=config,
    )
