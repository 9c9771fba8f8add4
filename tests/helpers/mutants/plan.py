"""MobileNets as plain data, made from their papers' tables without the package audited: what mutants are cut from.

A `Recipe` holds the choices a programmer makes before the first layer is built (tables, rounding, widths, strides); a
`Plan` the layers that follow. A bug edits the one or the other; `styles` turns a plan into a PyTorch module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

Round = Callable[[float], int]


def nearest_eight(channels: float) -> int:
    """The rule of the papers' code: the nearest multiple of 8, not more than 10 % down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class Row:
    """One block. `hidden`: channels inside at width 1, of an input of `wide_in`; `squeeze`: it has SE."""

    wide_in: int
    hidden: int
    out: int
    kernel: int
    stride: int
    act: str
    squeeze: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything a network follows from.

    `hidden_of`: hidden width of a row from its scaled input and output. `head_of`: head width (V2's 1280, V3's
    penultimate layer) from width 1's and the multiplier. `size`: side of the images; `small`: first strides left out.
    """

    family: str
    rows: tuple[Row, ...]
    stem: int
    act: str
    head: int
    penultimate: int
    width: float
    classes: int
    size: int
    eps: float
    momentum: float
    dropout: float
    small: bool = False
    rounding: Round = nearest_eight
    keep_expansion: bool = False
    hidden_from: str = "input"
    head_scaling: str = "up"
    squeeze_from: str = "hidden"
    squeeze_rounding: Round = nearest_eight
    gate: str = "hard_sigmoid"


@dataclass(frozen=True)
class Squeeze:
    """Channel attention of width `channels`; `place`: after or before the activation."""

    channels: int
    gate: str
    place: str = "after"


@dataclass(frozen=True)
class Conv:
    """A convolution (a linear layer when `flat`) with its norms, activation and squeeze."""

    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    bias: bool = False
    norms: int = 1
    eps: float = 1e-5
    momentum: float = 0.1
    act: str = "none"
    squeeze: Squeeze | None = None
    padding: str = "symmetric"
    flat: bool = False


@dataclass(frozen=True)
class Block:
    """Layers in a row; `shortcut`: none, identity, projected, pooled, padded or half (the input times 0.5)."""

    layers: tuple[Conv, ...]
    shortcut: str = "none"
    act_after: str = "none"
    role: str = "block"
    hidden: int = 0

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    @property
    def stride(self) -> int:
        stride = 1
        for layer in self.layers:
            stride *= layer.stride
        return stride


@dataclass(frozen=True)
class Plan:
    """Blocks (stem and head among them), the pool, and the layers on the pooled vector, the classifier last."""

    recipe: Recipe
    blocks: tuple[Block, ...]
    top: tuple[Conv, ...]
    pool: str = "global"
    dropout: float = 0.0
    dropout_always: bool = False
    stuck_in_training: bool = False
    batch_statistics: bool = False
    unused: int = 0
    final: str = "none"
    notes: tuple[str, ...] = field(default=())

    @property
    def map_size(self) -> int:
        size = self.recipe.size
        for block in self.blocks:
            size = -(-size // block.stride)
        return size


def _v2_rows() -> tuple[Row, ...]:
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    rows, wide = [], 32
    for t, c, n, s in table:
        for i in range(n):
            rows.append(Row(wide, wide * t, c, 3, s if i == 0 else 1, "relu6"))
            wide = c
    return tuple(rows)


def _v1_rows() -> tuple[Row, ...]:
    outs = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    rows, wide = [], 32
    for out, stride in outs:
        rows.append(Row(wide, wide, out, 3, stride, "relu"))
        wide = out
    return tuple(rows)


def _v3_rows(table: str) -> tuple[Row, ...]:
    rows, wide = [], 16
    for line in table.split(","):
        kernel, hidden, out, squeeze, act, stride = line.split()
        name = "hard_swish" if act == "HS" else "relu"
        rows.append(Row(wide, int(hidden), int(out), int(kernel), int(stride), name, squeeze == "SE"))
        wide = int(out)
    return tuple(rows)


V3_LARGE = (
    "3 16 16 - RE 1,3 64 24 - RE 2,3 72 24 - RE 1,5 72 40 SE RE 2,5 120 40 SE RE 1,5 120 40 SE RE 1,"
    "3 240 80 - HS 2,3 200 80 - HS 1,3 184 80 - HS 1,3 184 80 - HS 1,3 480 112 SE HS 1,3 672 112 SE HS 1,"
    "5 672 160 SE HS 2,5 960 160 SE HS 1,5 960 160 SE HS 1"
)
V3_LARGE_FIRST = V3_LARGE.replace(
    "5 672 160 SE HS 2,5 960 160 SE HS 1,5 960 160 SE HS 1", "5 672 160 SE HS 1,5 672 160 SE HS 2,5 960 160 SE HS 1"
)
"""As in the paper's first version on arXiv."""
V3_SMALL = (
    "3 16 16 SE RE 2,3 72 24 - RE 2,3 88 24 - RE 1,5 96 40 SE HS 2,5 240 40 SE HS 1,5 240 40 SE HS 1,"
    "5 120 48 SE HS 1,5 144 48 SE HS 1,5 288 96 SE HS 2,5 576 96 SE HS 1,5 576 96 SE HS 1"
)
FAMILIES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
WIDTHS = {
    "mobilenet_v1": (0.25, 0.5, 0.75, 1.0),
    "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.4),
    "mobilenet_v3_large": (0.75, 1.0),
    "mobilenet_v3_small": (0.75, 1.0),
}


def first_version_rows() -> tuple[Row, ...]:
    return _v3_rows(V3_LARGE_FIRST)


def recipe(family: str, *, width: float = 1.0, classes: int = 1000, size: int = 224, small: bool = False) -> Recipe:
    """The paper's choices. `small`: the two first strides left out."""
    common = {"width": width, "classes": classes, "size": size, "small": small}
    if family == "mobilenet_v1":
        return Recipe(family, _v1_rows(), 32, "relu", 0, 0, eps=1e-5, momentum=0.1, dropout=0.001, **common)
    if family == "mobilenet_v2":
        return Recipe(family, _v2_rows(), 32, "relu6", 1280, 0, eps=1e-5, momentum=0.1, dropout=0.2, **common)
    v3 = {"eps": 1e-3, "momentum": 0.01, "dropout": 0.2, **common}
    if family == "mobilenet_v3_large":
        return Recipe(family, _v3_rows(V3_LARGE), 16, "hard_swish", 960, 1280, **v3)
    return Recipe(family, _v3_rows(V3_SMALL), 16, "hard_swish", 576, 1024, **v3)


def plan(recipe: Recipe) -> Plan:
    """The layers that follow from a recipe."""
    rounding, width = recipe.rounding, recipe.width
    norm = {"eps": recipe.eps, "momentum": recipe.momentum}
    strides = [2, *(row.stride for row in recipe.rows)]
    if recipe.small:
        early = [index for index, stride in enumerate(strides) if stride == 2][:2]
        # Small-input forms take away the first two steps: the strides of the first layers become 1.
        strides = [1 if index in early else stride for index, stride in enumerate(strides)]
    channels = rounding(recipe.stem * width)
    blocks = [Block((Conv(3, channels, 3, strides[0], act=recipe.act, **norm),), role="stem")]
    for row, stride in zip(recipe.rows, strides[1:], strict=True):
        out = rounding(row.out * width)
        blocks.append(
            _separable(channels, out, row, stride, norm)
            if recipe.family == "mobilenet_v1"
            else _bottleneck(recipe, channels, out, row, stride, norm)
        )
        channels = out
    wide = {"up": max(1.0, width), "always": width, "never": 1.0}[recipe.head_scaling]
    head = rounding(recipe.head * (wide if recipe.family == "mobilenet_v2" else width)) if recipe.head else 0
    if head:
        blocks.append(Block((Conv(channels, head, act=recipe.act, **norm),), role="head"))
        channels = head
    top = []
    if recipe.penultimate:
        features = rounding(recipe.penultimate * wide)
        top.append(Conv(channels, features, bias=True, norms=0, act="hard_swish", flat=True))
        channels = features
    top.append(Conv(channels, recipe.classes, bias=True, norms=0, flat=True))
    return Plan(recipe, tuple(blocks), tuple(top), dropout=recipe.dropout)


def _separable(channels: int, out: int, row: Row, stride: int, norm: dict[str, float]) -> Block:
    depthwise = Conv(channels, channels, 3, stride, depthwise=True, act=row.act, **norm)
    return Block((depthwise, Conv(channels, out, act=row.act, **norm)))


def _bottleneck(recipe: Recipe, channels: int, out: int, row: Row, stride: int, norm: dict[str, float]) -> Block:
    ratio = row.hidden / row.wide_in
    hidden = {
        "input": lambda: recipe.rounding(channels * ratio),
        "output": lambda: recipe.rounding((out if row.hidden != row.wide_in else channels) * ratio),
        "table": lambda: recipe.rounding(row.hidden * recipe.width),
    }[recipe.hidden_from]()
    layers = []
    if hidden != channels or recipe.keep_expansion:
        layers.append(Conv(channels, hidden, act=row.act, **norm))
    squeeze = None
    if row.squeeze:
        wide = hidden if recipe.squeeze_from == "hidden" else channels
        squeeze = Squeeze(recipe.squeeze_rounding(wide / 4), recipe.gate)
    layers.append(Conv(hidden, hidden, row.kernel, stride, depthwise=True, act=row.act, squeeze=squeeze, **norm))
    layers.append(Conv(hidden, out, **norm))
    return Block(tuple(layers), shortcut="identity" if stride == 1 and channels == out else "none", hidden=hidden)


def edit_layers(plan: Plan, change: Callable[[Conv, Block], Conv]) -> Plan:
    """The plan with every convolution below the pool passed through `change`."""
    blocks = [replace(block, layers=tuple(change(layer, block) for layer in block.layers)) for block in plan.blocks]
    return replace(plan, blocks=tuple(blocks))


def edit_blocks(plan: Plan, change: Callable[[Block], Block]) -> Plan:
    """The plan with every block (stem and head aside) passed through `change`."""
    blocks = [change(block) if block.role == "block" else block for block in plan.blocks]
    return replace(plan, blocks=tuple(blocks))
