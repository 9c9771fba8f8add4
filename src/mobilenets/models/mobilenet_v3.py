"""MobileNetV3 (Howard et al. 2019, arXiv 1905.02244): the networks of the tables in `mobilenet_v3_tables`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from mobilenets.errors import ModelError
from mobilenets.models.blocks import InvertedResidual
from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.layers import (
    ConvNormActivation,
    Norm,
    Padding,
    batch_norm,
    check_padding,
    make_divisible,
)
from mobilenets.models.mobilenet_v3_tables import (
    HS,
    LARGE,
    LARGE_MINIMALISTIC,
    SMALL,
    SMALL_MINIMALISTIC,
    BneckRow,
    Table,
)
from mobilenets.models.network import MobileNet, stride_plan

# The audit reads the paper's rows by this module.
__all__ = [
    "HS",
    "LARGE",
    "LARGE_MINIMALISTIC",
    "SMALL",
    "SMALL_MINIMALISTIC",
    "BneckRow",
    "Table",
    "mobilenet_v3_large",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small",
    "mobilenet_v3_small_minimalistic",
]

STEM_STRIDE = 2
SQUEEZE_REDUCTION = 4
DROPOUT = 0.2
"""TF-slim `mobilenet.py` keeps 0.8 in training."""
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01


def mobilenet_v3_large(
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
    """MobileNetV3-Large, table 1: 5,483,032 parameters, 216.59 M multiply-adds at 224 and 1,000 classes.

    Args:
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
    return _build(LARGE, num_classes, width_mult, image_size, dropout, in_channels, padding, norm_eps, fixed_stem)


def mobilenet_v3_small(
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
    """MobileNetV3-Small, table 2: 2,542,856 parameters, 56.51 M multiply-adds; arguments as for Large."""
    return _build(SMALL, num_classes, width_mult, image_size, dropout, in_channels, padding, norm_eps, fixed_stem)


def mobilenet_v3_large_minimalistic(
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
    """Large without SE, h-swish and 5x5: 3,924,288 parameters, 209.14 M multiply-adds; arguments as for Large."""
    return _build(
        LARGE_MINIMALISTIC, num_classes, width_mult, image_size, dropout, in_channels, padding, norm_eps, fixed_stem
    )


def mobilenet_v3_small_minimalistic(
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
    """Small without SE, h-swish and 5x5: 2,044,736 parameters, 52.29 M multiply-adds; arguments as for Large."""
    return _build(
        SMALL_MINIMALISTIC, num_classes, width_mult, image_size, dropout, in_channels, padding, norm_eps, fixed_stem
    )


def _build(
    table: Table,
    num_classes: int,
    width_mult: float,
    image_size: int,
    dropout: float,
    in_channels: int,
    padding: str,
    norm_eps: float,
    fixed_stem: bool,
) -> MobileNet:
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
