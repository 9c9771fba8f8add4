"""Every published variant of the family with our counts, each source's figures beside them, and a verdict on each."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilenets.auditing.catalogue.cost_parts import CostParts, cost_parts
from mobilenets.auditing.catalogue.figures import PublishedRow, Source, load_figures
from mobilenets.auditing.catalogue.readings import Reading, mac_readings, parameter_readings
from mobilenets.auditing.catalogue.reconcile import Claim, Verdict, reconcile
from mobilenets.errors import ModelError
from mobilenets.models.registry import list_models
from mobilenets.models.weights.published import PUBLISHED, PublishedWeights, published_weights

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
class Variant:
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


def published_variants(filter: str = "") -> tuple[Variant, ...]:
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
    # A source's figures for a family are judged together: what is filtered out must not change a verdict.
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


def _variant(key: _Key, parts: CostParts | None, published: tuple[Publication, ...]) -> Variant:
    if parts is None:
        return Variant(*key, None, None, published, None)
    return Variant(*key, parts.parameters, parts.macs, published, _weights(key))


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
    """Verdicts by the row's position: judged together are a source's figures for one family, as it counts alike."""
    judged: defaultdict[tuple[str, str], list[tuple[int, Claim]]] = defaultdict(list)
    for position, row in enumerate(rows):
        parts, printed = costs.get(_key(row)), getattr(row, quantity)
        if parts is not None and printed is not None:
            readings = parameter_readings(parts) if quantity == "parameters" else _macs(_key(row), costs)
            hint = hints[position].key if position in hints else ""
            judged[row.source, _family(row.network)].append((position, Claim(printed, readings, hint)))
    return {
        position: verdict
        for claims in judged.values()
        for (position, _), verdict in zip(claims, reconcile([claim for _, claim in claims]), strict=True)
    }


def _macs(key: _Key, costs: Mapping[_Key, CostParts]) -> tuple[Reading, ...]:
    network, name, width_mult, image_size, num_classes = key
    others = {
        size: parts.macs
        for (*same, size, classes), parts in costs.items()
        if same == [network, name, width_mult] and classes == num_classes and size != image_size
    }
    return mac_readings(costs[key], others)


def _order(variant: Variant) -> tuple[object, ...]:
    shape = (-variant.num_classes, -variant.width_mult, -variant.image_size)
    return (not variant.built_here, variant.network, *shape, variant.name)
