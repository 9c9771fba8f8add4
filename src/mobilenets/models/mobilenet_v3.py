"""MobileNetV3 (Howard et al. 2019, arXiv 1905.02244): the paper's tables 1 and 2, then the network, then its forms.

The minimalistic forms are the authors' own (TF-slim `mobilenet_v3.py`), for hardware on which squeeze-and-excitation,
h-swish and 5x5 kernels are slow: the same tables without the three.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from mobilenets.errors import ModelError
from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.layers import (
    Activation,
    ConvNormActivation,
    InvertedResidual,
    Norm,
    Padding,
    batch_norm,
    check_padding,
    hard_swish,
    make_divisible,
    relu,
)
from mobilenets.models.network import MobileNet, stride_plan


@dataclass(frozen=True)
class BneckRow:
    """A `bneck` row in the paper's order: input channels, kernel, exp size, #out, SE, NL, s."""

    in_channels: int
    kernel: int
    expansion: int
    out_channels: int
    squeeze_excite: bool
    activation: Activation
    stride: int


@dataclass(frozen=True)
class V3Table:
    """One of the paper's tables: the network's registered name, the rows, and the layers around them.

    `head_channels` is the last 1x1 convolution before the pool, `penultimate_channels` the one after it;
    `activation` is that of the stem and of both.
    """

    name: str
    rows: tuple[BneckRow, ...]
    head_channels: int
    penultimate_channels: int
    activation: Activation


SE, NO_SE = True, False
RE, HS = relu, hard_swish

LARGE = V3Table(
    name="mobilenet_v3_large",
    rows=(
        BneckRow(16, 3, 16, 16, NO_SE, RE, 1),
        BneckRow(16, 3, 64, 24, NO_SE, RE, 2),
        BneckRow(24, 3, 72, 24, NO_SE, RE, 1),
        BneckRow(24, 5, 72, 40, SE, RE, 2),
        BneckRow(40, 5, 120, 40, SE, RE, 1),
        BneckRow(40, 5, 120, 40, SE, RE, 1),
        BneckRow(40, 3, 240, 80, NO_SE, HS, 2),
        BneckRow(80, 3, 200, 80, NO_SE, HS, 1),
        BneckRow(80, 3, 184, 80, NO_SE, HS, 1),
        BneckRow(80, 3, 184, 80, NO_SE, HS, 1),
        BneckRow(80, 3, 480, 112, SE, HS, 1),
        BneckRow(112, 3, 672, 112, SE, HS, 1),
        BneckRow(112, 5, 672, 160, SE, HS, 2),
        BneckRow(160, 5, 960, 160, SE, HS, 1),
        BneckRow(160, 5, 960, 160, SE, HS, 1),
    ),
    head_channels=960,
    penultimate_channels=1280,
    activation=HS,
)
SMALL = V3Table(
    name="mobilenet_v3_small",
    rows=(
        BneckRow(16, 3, 16, 16, SE, RE, 2),
        BneckRow(16, 3, 72, 24, NO_SE, RE, 2),
        BneckRow(24, 3, 88, 24, NO_SE, RE, 1),
        BneckRow(24, 5, 96, 40, SE, HS, 2),
        BneckRow(40, 5, 240, 40, SE, HS, 1),
        BneckRow(40, 5, 240, 40, SE, HS, 1),
        BneckRow(40, 5, 120, 48, SE, HS, 1),
        BneckRow(48, 5, 144, 48, SE, HS, 1),
        BneckRow(48, 5, 288, 96, SE, HS, 2),
        BneckRow(96, 5, 576, 96, SE, HS, 1),
        BneckRow(96, 5, 576, 96, SE, HS, 1),
    ),
    # The paper's table 2 marks SE on this convolution; neither the authors' code nor the published count has it.
    head_channels=576,
    penultimate_channels=1024,
    activation=HS,
)


LARGE_MINIMALISTIC, SMALL_MINIMALISTIC = (
    replace(
        table,
        name=f"{table.name}_minimalistic",
        rows=tuple(replace(row, kernel=3, squeeze_excite=False, activation=relu) for row in table.rows),
        activation=relu,
    )
    for table in (LARGE, SMALL)
)

STEM_STRIDE = 2
SQUEEZE_REDUCTION = 4
DROPOUT = 0.2
"""TF-slim `mobilenet.py` keeps 0.8 in training."""
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01


def mobilenet_v3(
    table: V3Table,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float = DROPOUT,
    in_channels: int = 3,
    padding: str = "symmetric",
    norm_eps: float = NORM_EPS,
    fixed_stem: bool = False,
) -> MobileNet:
    """The network of one of the tables; the named forms at the end of this file are this function with their table.

    Args:
        table: `LARGE`, `SMALL` or one of the minimalistic two.
        num_classes: outputs of the classifier.
        width_mult: factor on the channels; the penultimate 1,280 grow with it above 1 but do not shrink below.
        image_size: side in pixels the strides are planned for.
        dropout: rate before the classifier.
        in_channels: channels of the images.
        padding: `symmetric`, or `same` as in TensorFlow and its released weights; they differ at stride 2.
        norm_eps: of every batch norm, above 0, at most 0.1.
        fixed_stem: keep the stem's 16 channels at every width, as timm's networks below width 0.75 do.

    Raises:
        ModelError: a value is not valid; the message says what is.
    """
    norm, pad = batch_norm(eps=norm_eps, momentum=NORM_MOMENTUM), check_padding(padding)
    if not isinstance(fixed_stem, bool):
        raise ModelError(f"fixed_stem is {fixed_stem!r}: it must be True or False")
    options: dict[str, OptionValue] = {"padding": pad, "norm_eps": float(norm_eps), "fixed_stem": fixed_stem}
    config = NetworkConfig(table.name, num_classes, width_mult, image_size, dropout, in_channels, options)
    stem_stride, *strides = stride_plan((STEM_STRIDE, *(row.stride for row in table.rows)), config.image_size)
    stem_channels = make_divisible(table.rows[0].in_channels * (1.0 if fixed_stem else config.width_mult))
    blocks = _bnecks(table.rows, strides, stem_channels, config.width_mult, norm, pad)
    last_channels = make_divisible(table.rows[-1].out_channels * config.width_mult)
    head_channels = make_divisible(table.head_channels * config.width_mult)
    # As TF-slim's released networks: those below width 1 keep the full width here, those above grow.
    features = make_divisible(table.penultimate_channels * max(1.0, config.width_mult))
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
        blocks=blocks,
        head=ConvNormActivation(last_channels, head_channels, norm=norm, activation=table.activation),
        penultimate=nn.Sequential(
            OrderedDict(linear=nn.Linear(head_channels, features), activation=table.activation())
        ),
        features=features,
        num_classes=config.num_classes,
        dropout=config.dropout,
        config=config,
    )


def _bnecks(
    rows: Sequence[BneckRow], strides: Sequence[int], channels: int, width_mult: float, norm: Norm, padding: Padding
) -> list[InvertedResidual]:
    blocks = []
    for row, stride in zip(rows, strides, strict=True):
        # The exp size is a ratio of the unscaled input, applied to the scaled one: only so do the
        # published 0.75 networks come out.
        hidden_channels = make_divisible(channels * row.expansion / row.in_channels)
        out_channels = make_divisible(row.out_channels * width_mult)
        squeeze_channels = make_divisible(hidden_channels / SQUEEZE_REDUCTION) if row.squeeze_excite else None
        blocks.append(
            InvertedResidual(
                channels,
                hidden_channels,
                out_channels,
                kernel=row.kernel,
                stride=stride,
                squeeze_channels=squeeze_channels,
                norm=norm,
                activation=row.activation,
                padding=padding,
            )
        )
        channels = out_channels
    return blocks


mobilenet_v3_large = partial(mobilenet_v3, LARGE)
"""MobileNetV3-Large, table 1: 5,483,032 parameters, 216.59 M multiply-adds at 224 and 1,000 classes."""
mobilenet_v3_small = partial(mobilenet_v3, SMALL)
"""MobileNetV3-Small, table 2: 2,542,856 parameters, 56.51 M multiply-adds."""
mobilenet_v3_large_minimalistic = partial(mobilenet_v3, LARGE_MINIMALISTIC)
"""Large without SE, h-swish and 5x5: 3,924,288 parameters, 209.14 M multiply-adds."""
mobilenet_v3_small_minimalistic = partial(mobilenet_v3, SMALL_MINIMALISTIC)
"""Small without SE, h-swish and 5x5: 2,044,736 parameters, 52.29 M multiply-adds."""
