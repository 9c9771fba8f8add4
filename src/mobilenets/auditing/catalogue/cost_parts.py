"""A network's parameters and multiply-adds taken apart, so that other ways of counting them can be tried.

Everything is read off the published chain of layers: no network is run or traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mobilenets.auditing.structure.cost import LayerCost, cost
from mobilenets.auditing.structure.layers import Grouping, Layer, Place, Reference
from mobilenets.auditing.structure.published import IMAGENET_SIZE, reference
from mobilenets.models import mobilenet_v4_tables

SMALLEST_WITH_TABLE_STRIDES = 65
"""Pixels: from this size up the papers' five halvings stay (`models.network.stride_plan`)."""
_ATTENTION_ROWS = {
    table.name: table.rows for table in (mobilenet_v4_tables.HYBRID_MEDIUM, mobilenet_v4_tables.HYBRID_LARGE)
}


@dataclass(frozen=True)
class LastLayer:
    """The layer of freely chosen width whose outputs the classifier reads: V2's head, V3's penultimate layer.

    Attributes:
        width: its outputs.
        parameters_per_output: its weights, bias and norm that one output costs; the classifier's are not among them.
        macs_per_output: multiply-adds one output costs, likewise.
    """

    width: int
    parameters_per_output: int
    macs_per_output: int


@dataclass(frozen=True)
class CostParts:
    """What a network costs at one image size, and of what it is made up.

    Attributes:
        parameters: all of them.
        macs: all multiply-adds, of one image.
        width_mult: factor it was built with.
        norm_channels: channels of all batch norms: so many scales, and so many shifts.
        num_classes: outputs of the classifier.
        features: inputs of the classifier.
        stem_macs: multiply-adds of the first convolution.
        element_operations: one for each element a norm shifts, a layer of the chain adds a bias to, an activation
            gives, or a shortcut sums. The two biases inside squeeze-and-excitation are not among them.
        last: the layer before the classifier; None where its width is the last block's, as in V1.
        bare_expansion: channels of the first block where that needs no expansion (t = 1), and its positions; None
            where it has one, or is no inverted residual.
    """

    parameters: int
    macs: int
    width_mult: float
    norm_channels: int
    num_classes: int
    features: int
    stem_macs: int
    element_operations: int
    last: LastLayer | None
    bare_expansion: tuple[int, int] | None


def cost_parts(name: str, width_mult: float, num_classes: int, image_size: int) -> CostParts:
    """The cost of one network, in milliseconds.

    Raises:
        AuditError: there is no published network of that name; the message suggests one.
        ModelError: the width, image size or number of classes is not valid.
    """
    network = _network(name, width_mult, num_classes, image_size)
    whole = cost(network.chain.layers, in_channels=network.chain.in_channels, image_size=image_size)
    walk = list(zip(network.chain.layers, network.places, whole.layers, strict=True))
    norms = [norm for layer, place, found in walk for norm in _norms(name, layer, place, found)]
    return CostParts(
        parameters=whole.parameters,
        macs=whole.macs,
        width_mult=network.width_mult,
        norm_channels=sum(channels for channels, _ in norms),
        num_classes=whole.layers[-1].out_channels,
        features=whole.layers[-1].in_channels,
        stem_macs=whole.layers[0].macs,
        element_operations=sum(channels * positions for channels, positions in norms)
        + sum(_element_operations(layer, found) for layer, _, found in walk),
        last=_last_layer(network, whole.layers),
        bare_expansion=_bare_expansion(network, whole.layers[0]),
    )


def _network(name: str, width_mult: float, num_classes: int, image_size: int) -> Reference:
    """The chain; all sizes with the table's strides share one, but for attention, which costs by the size it is for."""
    shared = IMAGENET_SIZE if image_size >= SMALLEST_WITH_TABLE_STRIDES else image_size
    network = reference(name, width_mult=width_mult, image_size=shared, num_classes=num_classes)
    if shared == image_size or not any(layer.attention for layer in network.chain.layers):
        return network
    return reference(name, width_mult=width_mult, image_size=image_size, num_classes=num_classes)


def _norms(name: str, layer: Layer, place: Place, found: LayerCost) -> Iterator[tuple[int, int]]:
    """Channels and positions of each batch norm of a layer."""
    if layer.attention is None:
        yield from ((found.out_channels, found.out_size**2) for _ in layer.norms)
        return
    yield from ((found.in_channels, found.in_size**2) for _ in layer.norms)
    # The chain takes attention whole. Where the table makes the map of keys and values smaller, each of the two has a
    # filter with a norm.
    row = _ATTENTION_ROWS[name][place.block - 1]
    assert isinstance(row, mobilenet_v4_tables.MobileMQARow)
    if row.kv_stride > 1:
        yield from ((found.in_channels, (-(-found.in_size // row.kv_stride)) ** 2) for _ in ("keys", "values"))


def _element_operations(layer: Layer, found: LayerCost) -> int:
    """One an element of the bias, the activation, those of squeeze-and-excitation, and the shortcut's sum."""
    each = (layer.bias, layer.activation != "none", layer.shortcut is not None)
    inside = layer.squeeze.channels + found.out_channels if layer.squeeze else 0
    return sum(each) * found.out_channels * found.out_size**2 + inside


def _last_layer(network: Reference, costs: tuple[LayerCost, ...]) -> LastLayer | None:
    """The penultimate layer; without one the head; neither in V1."""
    by_part = {place.part: found for place, found in zip(network.places, costs, strict=True) if place.block == 0}
    last = by_part.get("penultimate") or by_part.get("head")
    if last is None:
        return None
    width = last.out_channels
    return LastLayer(width, last.parameters // width, last.macs // width)


def _bare_expansion(network: Reference, stem: LayerCost) -> tuple[int, int] | None:
    """Of the first block, when it is a depthwise filter and a linear projection: V1's ends in an activation."""
    first = [layer for layer, place in zip(network.chain.layers, network.places, strict=True) if place.block == 1]
    if len(first) == 2 and first[0].grouping is Grouping.DEPTHWISE and first[1].activation == "none":
        return stem.out_channels, stem.out_size**2
    return None
