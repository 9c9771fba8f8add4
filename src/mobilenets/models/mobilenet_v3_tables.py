"""MobileNetV3's tables 1 and 2 (Howard et al. 2019, arXiv 1905.02244), as rows in the paper's column order.

The minimalistic forms are the authors' own (TF-slim `mobilenet_v3.py`), for hardware on which squeeze-and-excitation,
h-swish and 5x5 kernels are slow: the same tables without the three.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mobilenets.models.layers import Activation, hard_swish, relu


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
class Table:
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

LARGE = Table(
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
SMALL = Table(
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


def _minimalistic(table: Table) -> Table:
    rows = tuple(replace(row, kernel=3, squeeze_excite=False, activation=relu) for row in table.rows)
    return replace(table, name=f"{table.name}_minimalistic", rows=rows, activation=relu)


LARGE_MINIMALISTIC = _minimalistic(LARGE)
SMALL_MINIMALISTIC = _minimalistic(SMALL)
