"""A network as a chain of layers, each a convolution with all that hangs on it: what graph and paper have in common.

The chain runs from stem to classifier. Squeeze-and-excitation, shortcut and attention hang on the layer they follow, so
that any MobileNet, however its code is cut into modules, is the same chain. Channels that enter a layer are those that
leave the one before: they are no attribute, and so an edited chain is always a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grouping(StrEnum):
    """How a convolution's channels meet."""

    DENSE = "dense"
    DEPTHWISE = "depthwise"
    GROUPED = "grouped"


class Padding(StrEnum):
    """Where zeros go: evenly; TensorFlow's SAME (more at the end when uneven); none though the kernel needs it."""

    SYMMETRIC = "symmetric"
    SAME = "same"
    VALID = "valid"
    OTHER = "other"


class ShortcutKind(StrEnum):
    """What is added to a block's output."""

    IDENTITY = "identity"
    PROJECTED = "projected"
    """The input through a convolution."""
    POOLED = "pooled"
    """The input made smaller: pooled, or every nth place of it."""
    PADDED = "padded"
    """The input with channels of zeros, or the first channels only."""
    SCALED = "scaled"
    """The input times a constant, or one that the zeroed-branch probe does not find."""


@dataclass(frozen=True)
class BatchNorm:
    """One normalization after a convolution. `momentum` None: the source does not say. `kind` as `graph.nodes.Norm`.

    `frozen`: its scale and shift are buffers, no parameters.
    """

    eps: float
    momentum: float | None
    kind: str = "batch"
    affine: bool = True
    frozen: bool = False
    path: str = ""


@dataclass(frozen=True)
class SqueezeExcite:
    """Channel attention on a layer's output.

    Attributes:
        channels: width inside.
        activation: between its two layers.
        gate: the function of the factor, e.g. `hard_sigmoid`.
        before_activation: it stands between the layer's norm and its activation instead of behind both.
        bias: its two layers have biases.
        norms: batch norms inside (the papers have none).
        fixed_pool: side in pixels of a pool whose window is fixed in the code; 0 where it takes the map, whatever its
            size.
        other: parameters beyond what the rest says: of a bias in one of its layers only; below 0 where one is shared.
        path: of its first layer.
    """

    channels: int
    activation: str
    gate: str
    before_activation: bool
    bias: bool
    norms: int
    fixed_pool: int = 0
    other: int = 0
    path: str = ""


@dataclass(frozen=True)
class Shortcut:
    """What is added to a layer's output: the input of the layer `span` - 1 before it (span 3: expand, filter, project).

    `layers` are the convolutions of a projected shortcut, with their norms; `other` is the number of parameters of
    whatever else stands on it: a norm alone, a learnt factor.
    """

    kind: ShortcutKind
    span: int
    layers: tuple[ChainLayer, ...] = ()
    other: int = 0
    activation_after: str = "none"
    """Function applied to the sum."""
    path: str = ""


@dataclass(frozen=True)
class AttentionUnit:
    """A multi-query (or multi-head) attention block, taken whole: queries, keys, values and output projection.

    `parameters` and `macs` (at this input) cover all of it, its own norms included; the input norm is not part of it.
    """

    heads: int | None
    parameters: int
    macs: int
    path: str = ""


@dataclass(frozen=True)
class ChainLayer:
    """A convolution or linear layer with its norms, activation and what hangs on it.

    A linear layer is a 1x1 convolution with `pooled` set.

    Attributes:
        out_channels: channels that leave it. Of a depthwise layer they follow from `multiplier`, see `cost`.
        kernel: side of the square filter in pixels; of a filter that is not square, the larger side.
        stride: 1 or more.
        grouping: dense, depthwise (a group per input channel) or grouped.
        groups: number of groups of a grouped convolution, else 1.
        multiplier: output channels per input channel of a depthwise convolution.
        dilation: 1 in all the papers.
        padding: see `Padding`; symmetric for kernel 1.
        zeros: rows of zeros above and below the map, where `padding` is `other`.
        bias: the convolution adds one. With a folded batch norm too.
        norms: normalizations that follow, in order; the papers have one, or none where a bias stands.
        activation: name from `probe.name_activation`: none, relu, relu6, hard_swish, swish, gelu, hard_sigmoid, ...
        pooled: it works on the pooled vector, after the global average pool.
        squeeze: squeeze-and-excitation behind it.
        shortcut: added to its output.
        layer_scale: a learnt factor per channel behind it (before the shortcut).
        attention: this "layer" is an attention block; kernel 1, stride 1, dense, `out_channels` that leave it.
        anti_alias: the stride is done by a separate blur or pool behind a stride-1 convolution (timm's `aa`).
        enters: channels and side of the map that enters it, where it is not the map that leaves the layer before:
            something without a place in the chain stands between.
        other: parameters and multiply-adds beyond what the fields above come to: of a filter or map that is not
            square, say.
        path: where the user finds it.
    """

    out_channels: int
    kernel: int = 1
    stride: int = 1
    grouping: Grouping = Grouping.DENSE
    groups: int = 1
    multiplier: int = 1
    dilation: int = 1
    padding: Padding = Padding.SYMMETRIC
    zeros: tuple[int, int] = (0, 0)
    bias: bool = False
    norms: tuple[BatchNorm, ...] = ()
    activation: str = "none"
    pooled: bool = False
    squeeze: SqueezeExcite | None = None
    shortcut: Shortcut | None = None
    layer_scale: bool = False
    attention: AttentionUnit | None = None
    anti_alias: bool = False
    enters: tuple[int, int] | None = None
    other: tuple[int, int] = (0, 0)
    path: str = ""


@dataclass(frozen=True)
class UnplacedOperator:
    """An operator without a place in the chain: where, what it is, its own parameters and multiply-adds.

    Weights that are called again have fewer than no parameters: those that the layer calling them does not have.
    """

    path: str
    what: str
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Pooling:
    """How the last map becomes a vector.

    `kind`: `global` (adaptive, mean over the map), `fixed` (a window of fixed size that happens to cover the map),
    `flatten` (no pool: the classifier sees every place), `max`, `other`.
    `map_size` is the side of the map it sees, at the chain's input size.
    """

    kind: str
    map_size: int
    path: str = ""


@dataclass(frozen=True)
class Chain:
    """A network folded: its layers from stem to classifier, and what belongs to no layer.

    Attributes:
        layers: in order of execution; the last is the classifier.
        in_channels: channels of the images.
        image_size: side of the images it was read with, the height where they are not square.
        pooling: see `Pooling`.
        dropout: rate before the classifier; 0 when there is none, None when the source can't say (files drop it).
        drop_path: the largest rate of stochastic depth.
        final: function after the classifier: `none`, `softmax`, `sigmoid`, ...
        parameters: of the whole network, by its own count.
        macs: of its convolutions and linear layers (attention's products included), for one image.
        unfolded: operators the chain has no place for.
        folded_norms: there is not one batch norm, and every convolution has a bias.
        features_only: its last layer is read as one of features, though nothing but the published network tells.
        answers_in_maps: the answer is no vector an image, but a map, boxes or the like.
        oblong: the images it was read with are not square.
    """

    layers: tuple[ChainLayer, ...]
    in_channels: int
    image_size: int
    pooling: Pooling
    dropout: float | None
    drop_path: float
    final: str
    parameters: int
    macs: int
    unfolded: tuple[UnplacedOperator, ...] = ()
    folded_norms: bool = False
    features_only: bool = False
    answers_in_maps: bool = False
    oblong: bool = False

    @property
    def num_classes(self) -> int | None:
        """Outputs of the classifier; None where the last layer is one of features: normalized, or nothing is pooled."""
        if (
            self.features_only
            or not self.layers
            or self.layers[-1].norms
            or (self.pooling.kind == "other" and not self.layers[-1].pooled)
        ):
            return None
        return self.layers[-1].out_channels


@dataclass(frozen=True)
class TablePlace:
    """Where a published layer stands.

    Attributes:
        block: number of its block from 1, in the paper's order; 0 for stem and what follows the blocks.
        part: stem, start, expand, spatial, project, attention, head, penultimate or classifier. `spatial` is the k x k
            filter of a block (depthwise in V1 to V3; dense in V4's fused blocks); `project` the 1x1 that ends it.
        source: the paper's table and row, e.g. `arXiv 1801.04381, table 2: t=6, c=24, n=2, s=2`.
        in_channels: channels entering the block, scaled.
        expand_ratio: the table's t; exp size over input in V3 and V4, 0 where there is none.
    """

    block: int
    part: str
    source: str
    in_channels: int = 0
    expand_ratio: float = 0.0


@dataclass(frozen=True)
class Reference:
    """A published network as a chain, with the place of each layer.

    Attributes:
        name: registered name, or a known variant's (`timm mobilenetv2_110d`).
        width_mult: its factor.
        options: of `create_model`, that make this form.
        small_input: the strides are those for small images, not the table's.
        chain: with the published counts.
        places: one a layer.
        variant_note: for a legitimate variant, what it is and whose; empty for the paper's own.
    """

    name: str
    width_mult: float
    options: tuple[tuple[str, str | int | float | bool], ...]
    small_input: bool
    chain: Chain
    places: tuple[TablePlace, ...]
    variant_note: str = ""
