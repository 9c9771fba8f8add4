"""A published network whose first layers a chain begins with: what a detector or segmenter is built on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from statistics import median

from mobilenets.auditing.structure.layers import Chain, Layer
from mobilenets.auditing.structure.nearest import WIDTHS
from mobilenets.auditing.structure.published import reference
from mobilenets.auditing.structure.variants import catalogue, published_widths

ENOUGH = 0.6
"""Share of a network's layers up to its head that make a chain one built on it: others share a stem and two blocks."""


@dataclass(frozen=True)
class Backbone:
    """The published network a chain begins with.

    Attributes:
        name, width_mult: of the published network.
        shared: how many layers, from the stem on, have its filters and channels.
        layers: how many it has up to the end of its last block.
        more: how many layers follow the shared ones in the chain.
    """

    name: str
    width_mult: float
    shared: int
    layers: int
    more: int


def find_backbone(found: Chain) -> Backbone | None:
    """The published network of which the chain has the most first layers; None where no network's share is enough.

    Strides do not count: segmenters replace the last by dilation.
    """
    begun = [_begun(found, name, width) for name in catalogue() for width in _widths(found, name)]
    best = max(begun, key=lambda one: (one.shared, one.shared / one.layers), default=None)
    return best if best is not None and best.shared >= ENOUGH * best.layers else None


def _widths(found: Chain, name: str) -> list[float]:
    """The public widths nearest to what the layers say; none where these are of another form than the network's."""
    body = _body(name, next(iter(published_widths(name)), 1.0), found.image_size)
    alike = list(takewhile(lambda pair: _form(pair[0]) == _form(pair[1]), zip(body, found.layers, strict=False)))
    if len(alike) < ENOUGH * len(body):
        return []
    ratio = median(own.out_channels / layer.out_channels for layer, own in alike)
    return list(published_widths(name)) or sorted(WIDTHS, key=lambda width: abs(width - ratio) / width)[:2]


def _begun(found: Chain, name: str, width_mult: float) -> Backbone:
    body = _body(name, width_mult, found.image_size)
    pairs = zip(body, found.layers, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: _wide_form(pair[0]) == _wide_form(pair[1]), pairs))
    return Backbone(name, width_mult, shared, len(body), len(found.layers) - shared)


def _body(name: str, width_mult: float, image_size: int) -> list[Layer]:
    """The published layers from the stem to the end of the last block."""
    published = reference(name, width_mult=width_mult, image_size=image_size)
    placed = zip(published.chain.layers, published.places, strict=True)
    return [layer for layer, place in placed if place.block or place.part == "stem"]


def _form(layer: Layer) -> tuple[object, ...]:
    return layer.grouping, layer.kernel, layer.squeeze is None, layer.attention is None


def _wide_form(layer: Layer) -> tuple[object, ...]:
    return *_form(layer), layer.out_channels
