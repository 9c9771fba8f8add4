"""Every published variant of the family with our counts, each source's figures beside them, and a verdict on each."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from mobilenets.catalogue.figures import PrintedFigure, PublishedRow, Source, load_figures
from mobilenets.catalogue.readings import AGREES, CostParts, TableReading, cost_parts, mac_readings, parameter_readings
from mobilenets.errors import ModelError
from mobilenets.models.registry import list_models
from mobilenets.models.weights.published import PUBLISHED, PublishedWeights, published_weights

# Why a published figure is not the network's: other ways of counting are tried until one gives it, digit for digit.
#
# Nothing here knows what any source did. Each reading is a count that is computed from the network; it explains a
# figure
# when it rounds to the digits printed. Several may: then the one that gives most of the same source's figures for a
# family of networks wins, since a source counts in one way, and of these the simplest.


UNEXPLAINED = "unexplained"
PAIR_DIGITS = 3
"""A figure of fewer digits fits too many pairs of readings by chance."""


@dataclass(frozen=True)
class Verdict:
    """What is said about one published figure.

    Attributes:
        printed: the figure with its unit.
        key: `agrees`, `unexplained`, or that of the reading that gives it.
        short: for tables: empty when it agrees.
        reason: a clause that explains it, or says how far off an unexplained one is.
        count: what the reading gives; None when unexplained.
        explains: of the source's figures for this family of networks, how many the reading gives.
        of: how many there are.
    """

    printed: str
    key: str
    short: str
    reason: str
    count: int | None
    explains: int
    of: int

    @property
    def agrees(self) -> bool:
        """The network has what was printed."""
        return self.key == AGREES

    def to_dict(self) -> dict[str, str | int | None]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class FigureReadings:
    """A published figure and all readings of its network, the plain count first.

    `hint` is the key of the reading that gives the same row's other figure: a network with a wider head has its
    parameters and its multiply-adds.
    """

    printed: PrintedFigure
    readings: tuple[TableReading, ...]
    hint: str = ""


def reconcile(figures: Sequence[FigureReadings]) -> tuple[Verdict, ...]:
    """A verdict for each figure, in order; all must be of one source, one family of networks and one quantity."""
    distinct = list({_identity(figure): figure for figure in figures}.values())
    given = {
        key: sum(
            any(reading.key == key and reading.gives(figure.printed) for reading in figure.readings)
            for figure in distinct
        )
        for key in {reading.key for figure in figures for reading in figure.readings}
    }
    return tuple(_verdict(figure, given, len(distinct)) for figure in figures)


def _identity(figure: FigureReadings) -> tuple[str, int]:
    """The same figure of the same network counts once: parameters are printed again for every image size."""
    return str(figure.printed), figure.readings[0].count


def _verdict(figure: FigureReadings, given: Mapping[str, int], of: int) -> Verdict:
    printed, plain = figure.printed, figure.readings[0]
    if plain.gives(printed):
        return Verdict(str(printed), AGREES, "", "agrees", plain.count, given[plain.key], of)
    fits = [
        reading
        for reading in figure.readings[1:]
        if reading.gives(printed) and ("+" not in reading.key or printed.digits >= PAIR_DIGITS)
    ]
    if not fits:
        return _unexplained(figure, of)
    # The first of equals is the simplest.
    best = max(fits, key=lambda reading: (reading.key == figure.hint, given[reading.key]))
    return Verdict(str(printed), best.key, best.short, best.reason, best.count, given[best.key], of)


def _unexplained(figure: FigureReadings, of: int) -> Verdict:
    printed, plain = figure.printed, figure.readings[0]
    reason = f"{_deviation(printed, plain)} from the network's {plain.count:,}"
    nearest = min(figure.readings, key=lambda reading: _distance(printed, reading))
    if 2 * _distance(printed, nearest) < _distance(printed, plain):
        reason += f"; nearest is {nearest.count:,}, {nearest.reason}, {_deviation(printed, nearest)} from it"
    if _one_digit_differs(printed, plain.count):
        reason += "; a single digit differs, so it may be a misprint"
    short = f"unexplained, {_deviation(printed, plain)}"
    return Verdict(str(printed), UNEXPLAINED, short, reason, None, 0, of)


def _distance(printed: PrintedFigure, reading: TableReading) -> float:
    return abs(float(printed.value) / reading.count - 1)


def _deviation(printed: PrintedFigure, reading: TableReading) -> str:
    return f"{float(printed.value) / reading.count - 1:+.1%}".replace("%", " %")


def _one_digit_differs(printed: PrintedFigure, count: int) -> bool:
    """Whether the count at the printed precision has the same digits but one; a figure of two says nothing so."""
    mine = str((Decimal(count) / printed.step).quantize(Decimal(1)))
    theirs = str((printed.value / printed.step).quantize(Decimal(1)))
    if printed.digits < PAIR_DIGITS or len(mine) != len(theirs):
        return False
    return sum(one != other for one, other in zip(mine, theirs, strict=True)) == 1


IMAGENET_CLASSES = 1000
_WITH_WEIGHTS = {(file.model, file.width_mult) for file in PUBLISHED}


@dataclass(frozen=True)
class Publication:
    """One source's row on a variant; a verdict is None where the source prints no figure, or we have no network."""

    row: PublishedRow
    source: Source
    parameters: Verdict | None
    macs: Verdict | None

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready; empty fields are left out."""
        kept = ("label", "dataset", "top1", "top5", "int8_top1", "int8_top5", "latency_ms", "latency_on", "note")
        said = {key: value for key in kept if (value := getattr(self.row, key))}
        figures = {
            key: {"printed": str(printed)} if verdict is None else verdict.to_dict()
            for key, printed, verdict in (
                ("parameters", self.row.parameters, self.parameters),
                ("macs", self.row.macs, self.macs),
            )
            if printed is not None
        }
        return {"source": asdict(self.source), **said, **figures}


@dataclass(frozen=True)
class TableVariant:
    """A network at one width, image size and number of classes.

    Attributes:
        network: our registered name; for a network of others, the family it belongs to.
        name: the source's own name of a network not built here, else empty.
        width_mult: factor on the channels.
        image_size: side of the images in pixels.
        num_classes: outputs of the classifier.
        parameters: our count; None when not built here.
        macs: our count of multiply-adds for one image, likewise.
        publications: what each source prints.
        weights: the file `weights="imagenet"` fetches, where this is the image size it is for; else None.
    """

    network: str
    name: str
    width_mult: float
    image_size: int
    num_classes: int
    parameters: int | None
    macs: int | None
    publications: tuple[Publication, ...]
    weights: PublishedWeights | None

    @property
    def built_here(self) -> bool:
        """Whether `create_model` makes it."""
        return self.parameters is not None

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        fields = ("network", "name", "width_mult", "image_size", "num_classes", "parameters", "macs")
        record: dict[str, Any] = {key: getattr(self, key) for key in fields}
        record["weights"] = {"file": self.weights.file, "url": self.weights.url} if self.weights else None
        return record | {"publications": [publication.to_dict() for publication in self.publications]}


def published_variants(filter: str = "") -> tuple[TableVariant, ...]:
    """Every published variant, by network, then classes, width and image size, the largest first.

    Args:
        filter: a network's name or the beginning of one, with or without `mobilenet_`: `mobilenet_v2`, `v3`,
            `v3_large`. Empty for all.

    Raises:
        ModelError: no published network's name begins so; the message lists those there are.
    """
    figures = load_figures()
    chosen = _chosen(sorted({row.network for row in figures.rows}), filter)
    families = {_family(network) for network in chosen}
    # A source's figures for a family are reconciled together: what is filtered out must not change a verdict.
    rows = [row for row in figures.rows if _family(row.network) in families]
    costs = _costs(dict.fromkeys(map(_key, rows)))
    parameters = _verdicts(rows, costs, "parameters", {})
    macs = _verdicts(rows, costs, "macs", parameters)
    published: defaultdict[_Key, list[Publication]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row.network in chosen:
            source = figures.sources[row.source]
            published[_key(row)].append(Publication(row, source, parameters.get(position), macs.get(position)))
    return tuple(sorted((_variant(key, costs.get(key), tuple(found)) for key, found in published.items()), key=_order))


_Key = tuple[str, str, float, int, int]
"""What makes a variant: network, name of others' network, width, image size, classes."""


def _key(row: PublishedRow) -> _Key:
    return row.network, row.name, row.width_mult, row.image_size, row.num_classes


def _variant(key: _Key, parts: CostParts | None, published: tuple[Publication, ...]) -> TableVariant:
    if parts is None:
        return TableVariant(*key, None, None, published, None)
    return TableVariant(*key, parts.parameters, parts.macs, published, _weights(key))


def _weights(key: _Key) -> PublishedWeights | None:
    network, _, width_mult, image_size, num_classes = key
    if num_classes != IMAGENET_CLASSES or (network, width_mult) not in _WITH_WEIGHTS:
        return None
    file = published_weights(network, width_mult)
    return file if file.preprocessing.image_size == image_size else None


def _chosen(networks: Sequence[str], wanted: str) -> list[str]:
    """The networks whose name begins with the words of `wanted`: `v3` begins `v3_small`, but not `v30`."""
    word = wanted.strip().lower().replace("-", "_").strip("_")
    full = word if word.startswith("mobilenet") else f"mobilenet_{word}"
    chosen = [name for name in networks if not word or f"{name}_".startswith(f"{full}_")]
    if not chosen:
        close = difflib.get_close_matches(full, [*networks, *map(_family, networks)], n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ModelError(f"nothing published is named {wanted!r}{hint} There are: {', '.join(networks)}")
    return chosen


def _family(network: str) -> str:
    """`mobilenet_v3` of `mobilenet_v3_small`."""
    return "_".join(network.split("_")[:2])


def _costs(keys: Iterable[_Key]) -> dict[_Key, CostParts]:
    registered = set(list_models())
    return {
        key: cost_parts(network, width_mult, num_classes, image_size)
        for key in keys
        for network, name, width_mult, image_size, num_classes in (key,)
        if network in registered and not name
    }


def _verdicts(
    rows: Sequence[PublishedRow], costs: Mapping[_Key, CostParts], quantity: str, hints: Mapping[int, Verdict]
) -> dict[int, Verdict]:
    """Verdicts by the row's position: figures of one source and family are reconciled together."""
    grouped: defaultdict[tuple[str, str], list[tuple[int, FigureReadings]]] = defaultdict(list)
    for position, row in enumerate(rows):
        parts, printed = costs.get(_key(row)), getattr(row, quantity)
        if parts is not None and printed is not None:
            readings = parameter_readings(parts) if quantity == "parameters" else _macs(_key(row), costs)
            hint = hints[position].key if position in hints else ""
            grouped[row.source, _family(row.network)].append((position, FigureReadings(printed, readings, hint)))
    return {
        position: verdict
        for figures in grouped.values()
        for (position, _), verdict in zip(figures, reconcile([figure for _, figure in figures]), strict=True)
    }


def _macs(key: _Key, costs: Mapping[_Key, CostParts]) -> tuple[TableReading, ...]:
    network, name, width_mult, image_size, num_classes = key
    others = {
        size: parts.macs
        for (*same, size, classes), parts in costs.items()
        if same == [network, name, width_mult] and classes == num_classes and size != image_size
    }
    return mac_readings(costs[key], others)


def _order(variant: TableVariant) -> tuple[object, ...]:
    shape = (-variant.num_classes, -variant.width_mult, -variant.image_size)
    return (not variant.built_here, variant.network, *shape, variant.name)
