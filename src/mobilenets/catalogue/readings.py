"""The ways of counting a network's parameters and multiply-adds that people use, each computed from its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mobilenets.auditing.structure.cost import LayerCost, cost
from mobilenets.auditing.structure.layers import ChainLayer, Grouping, Reference, TablePlace
from mobilenets.auditing.structure.published import IMAGENET_SIZE, reference
from mobilenets.catalogue.figures import PrintedFigure
from mobilenets.models import mobilenet_v4_tables

# A network's parameters and multiply-adds taken apart, so that other ways of counting them can be tried.
#
# Everything is read off the published chain of layers: no network is run or traced.


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


def _norms(name: str, layer: ChainLayer, place: TablePlace, found: LayerCost) -> Iterator[tuple[int, int]]:
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


def _element_operations(layer: ChainLayer, found: LayerCost) -> int:
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


AGREES = "agrees"
V3_LARGE_PENULTIMATE = 1280
"""Channels before the classifier in V2 and V3 Large; V3 Small has 1,024."""


@dataclass(frozen=True)
class TableReading:
    """One way to count: `count` is what it gives for this network. A pair of ways has a `+` in its key.

    Attributes:
        key: short and stable, for programs.
        short: for tables.
        reason: a clause that explains it.
        count: parameters, multiply-adds or operations.
        rounding: how the printed digits come from it: `nearest`, `down` or `up`.
    """

    key: str
    short: str
    reason: str
    count: int
    rounding: str = "nearest"

    def gives(self, printed: PrintedFigure) -> bool:
        """Whether this count, rounded so, has the digits printed."""
        over = Decimal(self.count) - printed.value  # above 0: digits were dropped
        if self.rounding == "down":
            return 0 <= over < printed.step
        if self.rounding == "up":
            return -printed.step < over <= 0
        return abs(over) <= printed.step / 2


def parameter_readings(parts: CostParts) -> tuple[TableReading, ...]:
    """Ways to count parameters, simplest first."""
    plain = parts.parameters
    single = [
        *_rounded(plain),
        *(
            TableReading(key, short, reason, plain + extra)
            for key, short, reason, extra in (*_norm_extras(parts), *_other_extras(parts))
        ),
    ]
    background = parts.features + 1
    pairs = [
        TableReading(
            f"{key}+background",
            f"{short}, {parts.num_classes + 1:,} classes",
            f"{reason}; and a background class, so {parts.num_classes + 1:,} outputs",
            plain + extra + background,
        )
        for key, short, reason, extra in _norm_extras(parts)
    ]
    return (_plain(plain), *single, *pairs)


def mac_readings(parts: CostParts, other_sizes: Mapping[int, int]) -> tuple[TableReading, ...]:
    """Ways to count multiply-adds, simplest first.

    Args:
        parts: the network.
        other_sizes: multiply-adds at other image sizes it is published for.
    """
    plain = parts.macs
    classifier = parts.features * parts.num_classes
    readings = [
        _plain(plain),
        *_rounded(plain),
        TableReading(
            "doubled", "2x: operations", "multiplications and additions counted singly, twice as many", 2 * plain
        ),
        TableReading("no stem", "without the stem", "the first convolution left out", plain - parts.stem_macs),
        TableReading("no classifier", "without the classifier", "the last linear layer left out", plain - classifier),
        TableReading("background", "1 class more", "a background class beside the others", plain + parts.features),
        *_head_readings(parts, plain, parts.last.macs_per_output if parts.last else 0),
        TableReading(
            "norm channels",
            "+1 a norm channel",
            "one operation more for each channel of the batch norms, whatever the positions",
            plain + parts.norm_channels,
        ),
        TableReading(
            "operations",
            "2x + elementwise ops",
            "multiplications and additions counted singly, and one operation for each element of a bias, an "
            "activation or a shortcut's sum",
            2 * plain + parts.element_operations,
        ),
        *_expansion(plain, parts, macs=True),
    ]
    readings += [
        TableReading(f"at {size}", f"count at {size} px", f"the count at {size} pixels", macs)
        for size, macs in sorted(other_sizes.items())
    ]
    return tuple(readings)


def _plain(count: int) -> TableReading:
    return TableReading(AGREES, "", "the network's own count", count)


def _rounded(count: int) -> tuple[TableReading, ...]:
    return (
        TableReading("truncated", "cut, not rounded", "digits cut off instead of rounded", count, "down"),
        TableReading("rounded up", "rounded up", "rounded up", count, "up"),
    )


Extra = tuple[str, str, str, int]
"""Key, short, reason, and how many parameters more than the network has."""


def _norm_extras(parts: CostParts) -> Iterable[Extra]:
    channels = parts.norm_channels
    yield "no norm", "without batch norm", "without the batch norms' scales and shifts", -2 * channels
    yield "folded norm", "batch norm folded", "batch norms folded into the convolutions, a bias each", -channels
    yield "norm statistics", "+ running statistics", "with the batch norms' running means and variances", 2 * channels
    yield (
        "statistics, no scale",
        "+ statistics, - scales",
        "with the batch norms' running means and variances, but without their scales",
        channels,
    )


def _other_extras(parts: CostParts) -> Iterable[Extra]:
    classifier = (parts.features + 1) * parts.num_classes
    more = f"{parts.num_classes + 1:,} classes"
    yield "background", more, f"a background class beside the others, so {more}", parts.features + 1
    yield "no classifier", "without the classifier", "the last linear layer left out", -classifier
    per_output = parts.last.parameters_per_output if parts.last else 0
    for reading in (*_head_readings(parts, 0, per_output), *_expansion(0, parts, macs=False)):
        yield reading.key, reading.short, reading.reason, reading.count


def _head_readings(parts: CostParts, plain: int, per_output: int) -> Iterable[TableReading]:
    """The last layer at other widths: V3 Large's, and scaled with the width factor where the paper does not, or not."""
    last = parts.last
    if last is None:
        return
    each = per_output + parts.num_classes
    if last.width < V3_LARGE_PENULTIMATE:
        wide = V3_LARGE_PENULTIMATE
        reason = f"{wide:,} channels before the classifier instead of {last.width:,}"
        yield TableReading("wide head", f"{wide:,}-wide head", reason, plain + (wide - last.width) * each)
    if parts.width_mult < 1:
        scaled = round(last.width * parts.width_mult)
        reason = f"the last layer shrunk with the width too, to {scaled:,} channels"
        yield TableReading("scaled head", f"{scaled:,}-wide head", reason, plain + (scaled - last.width) * each)
    if parts.width_mult > 1:
        unscaled = round(last.width / parts.width_mult)
        reason = f"the last layer not grown with the width: {unscaled:,} channels"
        yield TableReading("unscaled head", f"{unscaled:,}-wide head", reason, plain + (unscaled - last.width) * each)


def _expansion(plain: int, parts: CostParts, *, macs: bool) -> Iterable[TableReading]:
    """The 1x1 expansion that t = 1 makes superfluous, kept: weights and batch norm, as many channels as the stem's."""
    if parts.bare_expansion is None:
        return
    channels, positions = parts.bare_expansion
    extra = channels * channels * positions if macs else channels * channels + 2 * channels
    yield TableReading("kept expansion", "expansion at t=1 kept", "a 1x1 expansion kept where t = 1", plain + extra)
