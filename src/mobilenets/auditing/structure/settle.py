"""Layers held against the graph they were folded from, so that what their fields do not say is not lost.

A layer's costs follow from its fields and from what the layers before it leave. Where the graph has another map,
another count of weights or of multiply-adds, the layer is told: a folded network then costs what its graph costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mobilenets.auditing.structure.cost import entering, layer_cost
from mobilenets.auditing.structure.draft import Own
from mobilenets.auditing.structure.layers import Layer


def settled(layers: Sequence[Layer], own: Sequence[Own], channels: int, size: int, pooling: str) -> tuple[Layer, ...]:
    """The layers with `enters` and `other` set where the graph is not what the other fields come to.

    Args:
        layers: in order.
        own: what the graph says of each.
        channels, size: of the map that enters the first, the side in pixels.
        pooling: kind of `Pooling` in front of the first pooled layer.
    """
    found = []
    for layer, seen in zip(layers, own, strict=True):
        if entering(layer, channels, size, pooling) != (seen.channels, seen.size):
            layer = replace(layer, enters=(seen.channels, seen.size))
        layer = _with_other(layer, seen)
        after = layer_cost(layer, seen.channels, seen.size)
        channels, size = after.out_channels, after.out_size
        found.append(layer)
    return tuple(found)


def _with_other(layer: Layer, seen: Own) -> Layer:
    """The layer with what its convolution has beyond its fields: of a filter or map that is not square."""
    if seen.weights is None or seen.macs is None:
        return layer
    bare = layer_cost(replace(layer, squeeze=None, other=(0, 0)), seen.channels, seen.size)
    weights, macs = seen.weights - bare.weights, seen.macs - bare.macs
    return replace(layer, other=(layer.other[0] + weights, layer.other[1] + macs))
