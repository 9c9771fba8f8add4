"""Parameters and multiply-adds of a chain of layers, by the rules of arithmetic alone: no network is built or run.

Counting is as in `mobilenets.auditing.count`: every element of every weight, bias and norm; multiply-adds of
convolutions and linear layers, those of squeeze-and-excitation and projected shortcuts included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mobilenets.auditing.structure.layers import BatchNorm, Chain, ChainLayer, Grouping, Padding, SqueezeExcite


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs, with all that hangs on it.

    Attributes:
        in_channels, out_channels: what enters and leaves it.
        in_size, out_size: side of the maps, in pixels; 1 behind the pool.
        weights: of the convolution or linear layer itself.
        biases, norms: parameters of its bias and of its normalizations.
        squeeze, shortcut, layer_scale, attention: parameters of these, where there are any.
        other: parameters its form does not say, see `ChainLayer.other`.
        macs: multiply-adds for one image.
    """

    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    weights: int = 0
    biases: int = 0
    norms: int = 0
    squeeze: int = 0
    shortcut: int = 0
    layer_scale: int = 0
    attention: int = 0
    other: int = 0
    macs: int = 0

    @property
    def parameters(self) -> int:
        """All of them."""
        hanging = self.squeeze + self.shortcut + self.layer_scale + self.attention + self.other
        return self.weights + self.biases + self.norms + hanging


@dataclass(frozen=True)
class ChainCost:
    """What a chain costs, layer by layer; the totals are their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of all layers for one image."""
        return sum(layer.macs for layer in self.layers)


def chain_cost(chain: Chain) -> ChainCost:
    """`cost` of a chain's layers at its own input."""
    return cost(chain.layers, in_channels=chain.in_channels, image_size=chain.image_size, pooling=chain.pooling.kind)


def cost(layers: Sequence[ChainLayer], *, in_channels: int, image_size: int, pooling: str = "global") -> ChainCost:
    """What the layers cost, one after the other, for a square image.

    Args:
        layers: in order; what enters a layer is what leaves the one before.
        in_channels: channels of the image.
        image_size: its side in pixels.
        pooling: `flatten` when the first pooled layer sees every place of the last map; see `layers.Pooling`.
    """
    costs: list[LayerCost] = []
    channels, size = in_channels, image_size
    for index, layer in enumerate(layers):
        channels, size = entering(layer, channels, size, pooling)
        found = _with_shortcut(layer_cost(layer, channels, size), layer, costs, index)
        costs.append(found)
        channels, size = found.out_channels, found.out_size
    return ChainCost(tuple(costs))


def entering(layer: ChainLayer, channels: int, size: int, pooling: str) -> tuple[int, int]:
    """Channels and side of the map that enters a layer behind one that leaves `channels` on maps of side `size`."""
    if layer.enters is not None:
        return layer.enters
    if layer.pooled and size > 1:
        # Without a pool the classifier has a weight for every place of the map.
        return (channels * size * size if pooling == "flatten" else channels), 1
    return channels, size


def out_channels(layer: ChainLayer, in_channels: int) -> int:
    """Channels that leave a layer which `in_channels` enter: those of a depthwise layer follow from its input."""
    return in_channels * layer.multiplier if layer.grouping is Grouping.DEPTHWISE else layer.out_channels


def out_size(layer: ChainLayer, size: int) -> int:
    """Side of the map that leaves a layer, in pixels, at least 1."""
    reach = (layer.kernel - 1) * layer.dilation
    if layer.padding is Padding.VALID:
        return max(1, (size - reach - 1) // layer.stride + 1)
    if layer.padding is Padding.OTHER:
        return max(1, (size + sum(layer.zeros) - reach - 1) // layer.stride + 1)
    if layer.padding is Padding.SYMMETRIC:
        return max(1, (size + reach // 2 * 2 - reach - 1) // layer.stride + 1)
    return -(-size // layer.stride)


def layer_cost(layer: ChainLayer, in_channels: int, size: int) -> LayerCost:
    """What a layer costs on maps of `in_channels` and side `size`, the layers on its shortcut apart."""
    out, after = out_channels(layer, in_channels), out_size(layer, size)
    scale = out if layer.layer_scale else 0
    if layer.attention is not None:
        # Taken whole: its own count covers everything but the norm in front of it.
        norms = _norm_parameters(layer.norms, in_channels)
        unit = layer.attention
        return LayerCost(
            in_channels,
            out,
            size,
            after,
            norms=norms,
            layer_scale=scale,
            attention=unit.parameters,
            other=layer.other[0],
            macs=unit.macs + layer.other[1],
        )
    weights = _in_channels_per_filter(layer, in_channels) * out * layer.kernel**2
    # A stride done by a blur or pool behind the convolution does not make the convolution itself cheaper.
    at_work = out_size(replace(layer, stride=1), size) if layer.anti_alias else after
    squeeze, squeeze_macs = (0, 0) if layer.squeeze is None else squeeze_cost(layer.squeeze, out)
    return LayerCost(
        in_channels,
        out,
        size,
        after,
        weights=weights,
        biases=out if layer.bias else 0,
        norms=_norm_parameters(layer.norms, out),
        squeeze=squeeze,
        layer_scale=scale,
        other=layer.other[0],
        macs=weights * at_work**2 + squeeze_macs + layer.other[1],
    )


def _in_channels_per_filter(layer: ChainLayer, in_channels: int) -> int:
    if layer.grouping is Grouping.DEPTHWISE:
        return 1
    return in_channels // layer.groups if layer.grouping is Grouping.GROUPED else in_channels


def squeeze_cost(squeeze: SqueezeExcite, channels: int) -> tuple[int, int]:
    """Parameters and multiply-adds of squeeze-and-excitation on `channels` channels: two layers on a vector."""
    inside, weights = squeeze.channels, 2 * channels * squeeze.channels
    biases = channels + inside if squeeze.bias else 0
    widths = (inside, channels)  # the first norm is behind the first layer
    norms = sum(2 * width for width in widths[: squeeze.norms])
    return weights + biases + norms + squeeze.other, weights


def _with_shortcut(found: LayerCost, layer: ChainLayer, before: Sequence[LayerCost], index: int) -> LayerCost:
    """Add what a projected shortcut costs; its first layer sees what enters the span."""
    if layer.shortcut is None:
        return found
    start = max(0, index - layer.shortcut.span + 1)
    entry = before[start] if start < index else found
    side = cost(layer.shortcut.layers, in_channels=entry.in_channels, image_size=entry.in_size)
    return replace(found, shortcut=side.parameters + layer.shortcut.other, macs=found.macs + side.macs)


def _norm_parameters(norms: Sequence[BatchNorm], channels: int) -> int:
    return sum(2 * channels for norm in norms if norm.affine and not norm.frozen)
