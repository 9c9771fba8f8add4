"""Legitimate networks beside the papers': what timm changed on purpose, as edits of the published chains.

timm itself is not needed. Each edit states the choice in a line; tests hold the edited chains against timm's networks.
Source of all: timm `models/mobilenetv3.py` and `models/efficientnet.py` (their builders' arguments).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Grouping, Reference, TablePlace
from mobilenets.models.registry import list_models

PlacedEdit = Callable[[ChainLayer, TablePlace, int], ChainLayer]
"""Changes a layer, given its place and the channels entering it."""


@dataclass(frozen=True)
class NetworkVariant:
    """A network that differs on purpose from a published one.

    Attributes:
        base: the published network's name.
        note: what differs and whose choice it is, in a line.
        width_mult: the width it is published at.
        fixed: channels that no width multiplier changes, by part.
        repeats: how often a block (by its number from 1) stands, where more than once.
        heads: how many head layers there are: one more than the paper's when it has none.
        edit: any other change.
    """

    base: str
    note: str
    width_mult: float = 1.0
    fixed: tuple[tuple[str, int], ...] = ()
    repeats: tuple[tuple[int, int], ...] = ()
    heads: int | None = None
    edit: PlacedEdit | None = None


def catalogue() -> Iterator[str]:
    """Every name `published.reference` knows: the registered networks, then the variants."""
    yield from list_models()
    yield from VARIANTS


def published_widths(name: str) -> tuple[float, ...]:
    """The width a variant is published at; empty for the papers' networks, which have many."""
    return (VARIANTS[name].width_mult,) if name in VARIANTS else ()


def apply_variant(name: str, variant: NetworkVariant, base: Reference) -> Reference:
    """The variant, made of its base at the same width and size."""
    placed = list(zip(base.chain.layers, base.places, strict=True))
    placed = _with_heads(placed, variant.heads)
    placed = _repeated(placed, dict(variant.repeats))
    placed = _flowing(placed, base.chain.in_channels, dict(variant.fixed), variant.edit)
    chain = counted(replace(base.chain, layers=tuple(layer for layer, _ in placed)))
    return replace(base, name=name, chain=chain, places=tuple(place for _, place in placed), variant_note=variant.note)


def counted(chain: Chain) -> Chain:
    """The chain with the parameters and multiply-adds its layers have."""
    found = chain_cost(chain)
    return replace(chain, parameters=found.parameters, macs=found.macs)


_Placed = tuple[ChainLayer, TablePlace]


def _with_heads(placed: list[_Placed], heads: int | None) -> list[_Placed]:
    """As many head layers: copies of the paper's; in V1, which has none, of its last 1x1 convolution."""
    if heads is None:
        return placed
    before = [one for one in placed if one[1].block or one[1].part == "stem"]
    behind = [one for one in placed if one[0].pooled]
    own = [one for one in placed if one[1].part == "head"]
    layer, place = own[0] if own else before[-1]
    head = (layer, replace(place, block=0, part="head", in_channels=before[-1][0].out_channels))
    return [*before, *[head] * heads, *behind]


def _repeated(placed: Sequence[_Placed], repeats: dict[int, int]) -> list[_Placed]:
    """The blocks in order, some several times, numbered anew."""
    found: list[_Placed] = []
    number, index = 0, 0
    while index < len(placed):
        block = placed[index][1].block
        members = [one for one in placed[index:] if one[1].block == block] if block else [placed[index]]
        for _ in range(repeats.get(block, 1) if block else 1):
            number += bool(block)
            found.extend((layer, replace(place, block=number if block else 0)) for layer, place in members)
        index += len(members)
    return found


def _flowing(
    placed: Sequence[_Placed], in_channels: int, fixed: dict[str, int], edit: PlacedEdit | None
) -> list[_Placed]:
    """The layers with fixed channels set and the edit made, the channels behind them following."""
    found: list[_Placed] = []
    channels, entering, block = in_channels, in_channels, -1
    for layer, place in placed:
        if place.block != block or not place.block:
            entering, block = channels, place.block
        out = fixed.get(place.part, layer.out_channels)
        if layer.grouping is Grouping.DEPTHWISE:
            out = channels * layer.multiplier
        layer = replace(layer, out_channels=out)
        layer = layer if edit is None else edit(layer, place, channels)
        found.append((layer, replace(place, in_channels=entering)))
        channels = layer.out_channels
    return found


def _anti_aliased(layer: ChainLayer, place: TablePlace, in_channels: int) -> ChainLayer:
    """Every stride behind the stem is done by a pool or blur of its own."""
    return replace(layer, anti_alias=True) if layer.stride > 1 and place.part != "stem" else layer


def _as_rw(layer: ChainLayer, place: TablePlace, in_channels: int) -> ChainLayer:
    """No shortcut in the first block, none but the network's own activation in SE, whose width is not rounded."""
    if place.part == "penultimate":
        return replace(layer, bias=False)
    if place.block == 1:
        return replace(layer, shortcut=None)
    if layer.squeeze is None:
        return layer
    inside = round(layer.out_channels * RW_SQUEEZE_RATIO)
    return replace(layer, squeeze=replace(layer.squeeze, channels=inside, activation=layer.activation))


RW_SQUEEZE_RATIO = 0.25
VARIANTS: dict[str, NetworkVariant] = {
    "timm mobilenetv1_100h": NetworkVariant(
        "mobilenet_v1",
        "timm adds a 1x1 head of 1,024 channels in front of the pool",
        fixed=(("head", 1024),),
        heads=1,
    ),
    "timm mobilenetv2_110d": NetworkVariant(
        "mobilenet_v2",
        "timm's depth multiplier of 1.2 at width 1.1; stem 32 and head 1,280 keep their width",
        width_mult=1.1,
        fixed=(("stem", 32), ("head", 1280)),
        repeats=((3, 2), (6, 2), (10, 2), (13, 2), (16, 2)),
    ),
    "timm mobilenetv2_120d": NetworkVariant(
        "mobilenet_v2",
        "timm's depth multiplier of 1.4 at width 1.2; stem 32 and head 1,280 keep their width",
        width_mult=1.2,
        fixed=(("stem", 32), ("head", 1280)),
        repeats=((3, 2), (6, 3), (10, 3), (13, 3), (16, 3)),
    ),
    "timm mobilenetv3_large_150d": NetworkVariant(
        "mobilenet_v3_large",
        "timm's depth multiplier of 1.2 at width 1.5; two heads; the penultimate 1,280 do not grow",
        width_mult=1.5,
        fixed=(("penultimate", 1280),),
        repeats=((1, 2), (3, 2), (6, 2), (8, 2), (12, 2), (15, 2)),
        heads=2,
    ),
    "timm mobilenetv3_small_050": NetworkVariant(
        "mobilenet_v3_small",
        "timm keeps the stem's 16 channels at width 0.5",
        width_mult=0.5,
        fixed=(("stem", 16),),
    ),
    "timm mobilenetv3_rw": NetworkVariant(
        "mobilenet_v3_large",
        "timm's early form: SE widths not rounded to 8 and h-swish inside, no shortcut in block 1, no penultimate bias",
        edit=_as_rw,
    ),
    "timm mobilenetv4_conv_aa_medium": NetworkVariant(
        "mobilenet_v4_conv_medium",
        "timm filters before each stride behind the stem: an average pool (aa) or a fixed blur (blur)",
        edit=_anti_aliased,
    ),
    "timm mobilenetv4_conv_aa_large": NetworkVariant(
        "mobilenet_v4_conv_large",
        "timm filters before each stride behind the stem: an average pool (aa) or a fixed blur (blur)",
        edit=_anti_aliased,
    ),
}
