"""MobileNetV4's architecture tables (Qin et al. 2024, arXiv 2404.10518, appendix), row by row.

Where the paper's print is unclear the rows follow the authors' code (TensorFlow Model Garden `mobilenet.py`), and so do
the numbers the paper's tables do not hold: the attention's, and batch norm's (the experiments beside it).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mobilenets.models.layers import Activation, relu


@dataclass(frozen=True)
class ConvRow:
    """A `Conv2D` row: input channels, kernel, output dim, stride."""

    in_channels: int
    kernel: int
    out_channels: int
    stride: int


@dataclass(frozen=True)
class FusedIBRow:
    """A `FusedIB` row in the paper's order: input channels, kernel, expanded dim, output dim, stride."""

    in_channels: int
    kernel: int
    hidden_channels: int
    out_channels: int
    stride: int


@dataclass(frozen=True)
class UIBRow:
    """An `ExtraDW`, `IB`, `ConvNext` or `FFN` row in the paper's order.

    Input channels, DW K1 (the kernel before the expansion), DW K2 (the one after it; None where the paper has a dash),
    expanded dim, output dim, stride.
    """

    in_channels: int
    start_kernel: int | None
    middle_kernel: int | None
    hidden_channels: int
    out_channels: int
    stride: int

    @property
    def block(self) -> str:
        """The paper's name of the block, which follows from the kernels."""
        names = {(True, True): "ExtraDW", (False, True): "IB", (True, False): "ConvNext", (False, False): "FFN"}
        return names[self.start_kernel is not None, self.middle_kernel is not None]


@dataclass(frozen=True)
class MobileMQARow:
    """A `Mobile-MQA` row: channels in and out; heads, their channels and the stride of keys and values."""

    in_channels: int
    heads: int
    head_channels: int
    kv_stride: int

    @property
    def out_channels(self) -> int:
        """As many as go in."""
        return self.in_channels

    @property
    def stride(self) -> int:
        """Of the block's output: none is lost."""
        return 1


V4Row = ConvRow | FusedIBRow | UIBRow | MobileMQARow


@dataclass(frozen=True)
class V4Table:
    """One of the paper's networks: its registered name, the rows between stem and head, and what they share.

    `layer_scale` says whether the residual branches end in one; `norm_momentum` is PyTorch's, 1 minus TensorFlow's.
    """

    name: str
    rows: tuple[V4Row, ...]
    activation: Activation
    layer_scale: bool
    norm_momentum: float


CONV_SMALL = V4Table(
    name="mobilenet_v4_conv_small",
    rows=(
        # The paper prints these four as two FusedIB. They are plain convolutions: the second of each pair has an
        # activation too, in the authors' code and in every released weight.
        ConvRow(32, 3, 32, 2),
        ConvRow(32, 1, 32, 1),
        ConvRow(32, 3, 96, 2),
        ConvRow(96, 1, 64, 1),
        UIBRow(64, 5, 5, 192, 96, 2),
        *(UIBRow(96, None, 3, 192, 96, 1),) * 4,
        UIBRow(96, 3, None, 384, 96, 1),
        UIBRow(96, 3, 3, 576, 128, 2),
        UIBRow(128, 5, 5, 512, 128, 1),
        UIBRow(128, None, 5, 512, 128, 1),
        UIBRow(128, None, 5, 384, 128, 1),
        *(UIBRow(128, None, 3, 512, 128, 1),) * 2,
    ),
    activation=relu,
    layer_scale=False,
    norm_momentum=0.05,
)
CONV_MEDIUM = V4Table(
    name="mobilenet_v4_conv_medium",
    rows=(
        FusedIBRow(32, 3, 128, 48, 2),
        UIBRow(48, 3, 5, 192, 80, 2),
        UIBRow(80, 3, 3, 160, 80, 1),
        UIBRow(80, 3, 5, 480, 160, 2),
        *(UIBRow(160, 3, 3, 640, 160, 1),) * 2,
        UIBRow(160, 3, 5, 640, 160, 1),
        UIBRow(160, 3, 3, 640, 160, 1),
        UIBRow(160, 3, None, 640, 160, 1),
        UIBRow(160, None, None, 320, 160, 1),
        UIBRow(160, 3, None, 640, 160, 1),
        UIBRow(160, 5, 5, 960, 256, 2),
        UIBRow(256, 5, 5, 1024, 256, 1),
        *(UIBRow(256, 3, 5, 1024, 256, 1),) * 2,
        UIBRow(256, None, None, 1024, 256, 1),
        UIBRow(256, 3, None, 1024, 256, 1),
        UIBRow(256, 3, 5, 512, 256, 1),
        UIBRow(256, 5, 5, 1024, 256, 1),
        *(UIBRow(256, None, None, 1024, 256, 1),) * 2,
        UIBRow(256, 5, None, 512, 256, 1),
    ),
    activation=relu,
    layer_scale=False,
    norm_momentum=0.003,
)
CONV_LARGE = V4Table(
    name="mobilenet_v4_conv_large",
    rows=(
        FusedIBRow(24, 3, 96, 48, 2),
        UIBRow(48, 3, 5, 192, 96, 2),
        UIBRow(96, 3, 3, 384, 96, 1),
        UIBRow(96, 3, 5, 384, 192, 2),
        *(UIBRow(192, 3, 3, 768, 192, 1),) * 3,
        UIBRow(192, 3, 5, 768, 192, 1),
        *(UIBRow(192, 5, 3, 768, 192, 1),) * 5,
        UIBRow(192, 3, None, 768, 192, 1),
        UIBRow(192, 5, 5, 768, 512, 2),
        *(UIBRow(512, 5, 5, 2048, 512, 1),) * 3,
        UIBRow(512, 5, None, 2048, 512, 1),
        UIBRow(512, 5, 3, 2048, 512, 1),
        *(UIBRow(512, 5, None, 2048, 512, 1),) * 2,
        UIBRow(512, 5, 3, 2048, 512, 1),
        UIBRow(512, 5, 5, 2048, 512, 1),
        *(UIBRow(512, 5, None, 2048, 512, 1),) * 3,
    ),
    activation=relu,
    layer_scale=False,
    norm_momentum=0.003,
)
HYBRID_MEDIUM = V4Table(
    name="mobilenet_v4_hybrid_medium",
    rows=(
        FusedIBRow(32, 3, 128, 48, 2),
        UIBRow(48, 3, 5, 192, 80, 2),
        UIBRow(80, 3, 3, 160, 80, 1),
        UIBRow(80, 3, 5, 480, 160, 2),
        UIBRow(160, None, None, 320, 160, 1),
        UIBRow(160, 3, 3, 640, 160, 1),
        UIBRow(160, 3, 5, 640, 160, 1),
        *(
            MobileMQARow(160, 4, 64, 2),
            UIBRow(160, 3, 3, 640, 160, 1),
            MobileMQARow(160, 4, 64, 2),
            UIBRow(160, 3, None, 640, 160, 1),
        )
        * 2,
        UIBRow(160, 5, 5, 960, 256, 2),
        UIBRow(256, 5, 5, 1024, 256, 1),
        *(UIBRow(256, 3, 5, 1024, 256, 1),) * 2,
        UIBRow(256, None, None, 512, 256, 1),
        UIBRow(256, 3, 5, 512, 256, 1),
        UIBRow(256, None, None, 512, 256, 1),
        UIBRow(256, None, None, 1024, 256, 1),
        MobileMQARow(256, 4, 64, 1),
        UIBRow(256, 3, None, 1024, 256, 1),
        MobileMQARow(256, 4, 64, 1),
        UIBRow(256, 5, 5, 1024, 256, 1),
        *(MobileMQARow(256, 4, 64, 1), UIBRow(256, 5, None, 1024, 256, 1)) * 2,
    ),
    activation=relu,
    layer_scale=True,
    norm_momentum=0.003,
)
HYBRID_LARGE = V4Table(
    name="mobilenet_v4_hybrid_large",
    rows=(
        FusedIBRow(24, 3, 96, 48, 2),
        UIBRow(48, 3, 5, 192, 96, 2),
        UIBRow(96, 3, 3, 384, 96, 1),
        UIBRow(96, 3, 5, 384, 192, 2),
        *(UIBRow(192, 3, 3, 768, 192, 1),) * 3,
        UIBRow(192, 3, 5, 768, 192, 1),
        *(UIBRow(192, 5, 3, 768, 192, 1),) * 2,
        *(MobileMQARow(192, 8, 48, 2), UIBRow(192, 5, 3, 768, 192, 1)) * 3,
        MobileMQARow(192, 8, 48, 2),
        UIBRow(192, 3, None, 768, 192, 1),
        UIBRow(192, 5, 5, 768, 512, 2),
        *(UIBRow(512, 5, 5, 2048, 512, 1),) * 3,
        UIBRow(512, 5, None, 2048, 512, 1),
        UIBRow(512, 5, 3, 2048, 512, 1),
        *(UIBRow(512, 5, None, 2048, 512, 1),) * 2,
        UIBRow(512, 5, 3, 2048, 512, 1),
        UIBRow(512, 5, 5, 2048, 512, 1),
        *(MobileMQARow(512, 8, 64, 1), UIBRow(512, 5, None, 2048, 512, 1)) * 4,
    ),
    activation=nn.GELU,
    layer_scale=True,
    norm_momentum=0.003,
)
