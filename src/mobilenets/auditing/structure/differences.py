"""What differs between the published chain and the found one, attribute by attribute, and the way across.

Applying differences to the published layers turns them step by step into the found ones, which is how each gets its
share of the parameters and multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from math import isclose
from typing import Any

from mobilenets.auditing.structure.cost import out_channels
from mobilenets.auditing.structure.layers import (
    AttentionUnit,
    BatchNorm,
    Chain,
    ChainLayer,
    Grouping,
    Reference,
    Shortcut,
    SqueezeExcite,
)

# The found chain beside the published one: slots, differences, and how sure the choice is.


@dataclass(frozen=True)
class AlignedSlot:
    """A place in the aligned chains: the published layer, the found one, or both. `index` is its number."""

    index: int
    expected: ChainLayer | None
    found: ChainLayer | None
    reference_index: int | None
    """Index in the reference's layers and places; None for an extra layer."""
    found_index: int | None


@dataclass(frozen=True)
class NetworkDifference:
    """One attribute in which the found network differs.

    Attributes:
        slot: of which slot; None for the network's own (`pooling`, `dropout`, `final`, `in_channels`).
        attribute: a field of `ChainLayer` (of `Chain`, when slot is None), or `layer` for a missing or an extra layer.
        expected, found: the two values.
    """

    slot: int | None
    attribute: str
    expected: object
    found: object


@dataclass(frozen=True)
class NetworkComparison:
    """The found chain beside the published one nearest to it.

    Attributes:
        found: the network.
        reference: the published one.
        slots: both, aligned.
        differences: all of them, in order of the slots.
        certainty: 0 to 1, how sure the choice of the reference is; 1 when the user named network and width.
        runner_up: the next nearest, for people: `mobilenet_v2 width 0.75`.
        expected_by_user: the user named the network.
    """

    found: Chain
    reference: Reference
    slots: tuple[AlignedSlot, ...]
    differences: tuple[NetworkDifference, ...]
    certainty: float
    runner_up: str
    expected_by_user: bool


PLAIN = (
    "kernel",
    "stride",
    "grouping",
    "groups",
    "multiplier",
    "dilation",
    "padding",
    "bias",
    "activation",
    "pooled",
    "layer_scale",
    "anti_alias",
    "enters",
    "other",
)
"""Attributes of a layer compared as they are."""
SQUEEZE = tuple(field.name for field in fields(SqueezeExcite) if field.name != "path")
SQUEEZE_FORM: dict[str, object] = {"bias": True, "norms": 0, "fixed_pool": 0, "other": 0}
"""The papers' squeeze-and-excitation, wherever it stands: one in the wrong place may also be of another form."""
TOLERANCE = 1e-3
"""Relative, of eps, momentum and rates: files keep them in 32 bits."""


def differences(slots: Sequence[AlignedSlot], reference: Reference, found: Chain) -> tuple[NetworkDifference, ...]:
    """All differences: the network's own first, then those of the layers in order.

    Paths are no difference, nor are the channels of a depthwise layer (they follow from what enters it), a dropout or
    momentum the source does not give, or a shortcut that starts elsewhere only because a layer is missing or extra.
    """
    layers = [difference for slot in slots for difference in _of_slot(slot, slots)]
    return (*_of_network(reference.chain, found), *layers)


@dataclass(frozen=True)
class PartialChain:
    """The published layers on their way to the found ones: a layer a slot, None where there is none now.

    `starts`: of the shortcut on each slot, the slot where it starts.
    """

    slots: tuple[AlignedSlot, ...]
    layers: tuple[ChainLayer | None, ...]
    starts: tuple[int | None, ...]
    in_channels: int
    pooling: str

    def chain_layers(self) -> tuple[ChainLayer, ...]:
        """The layers there are, with the spans and depthwise channels that follow from the others."""
        channels, layers = self.in_channels, []
        for index, layer in enumerate(self.layers):
            if layer is None:
                continue
            channels = out_channels(layer, channels)
            start, shortcut = self.starts[index], layer.shortcut
            if shortcut is not None and start is not None:
                span = sum(other is not None for other in self.layers[start : index + 1])
                shortcut = replace(shortcut, span=span)
            layers.append(replace(layer, out_channels=channels, shortcut=shortcut))
        return tuple(layers)


def published(slots: Sequence[AlignedSlot], reference: Reference) -> PartialChain:
    """The published layers, nothing applied yet."""
    return PartialChain(
        slots=tuple(slots),
        layers=tuple(slot.expected for slot in slots),
        starts=tuple(_common_start(slot, slots) for slot in slots),
        in_channels=reference.chain.in_channels,
        pooling=reference.chain.pooling.kind,
    )


def apply(patchwork: PartialChain, changes: Iterable[NetworkDifference]) -> PartialChain:
    """The patchwork with these differences taken over from the found network."""
    layers, starts = list(patchwork.layers), list(patchwork.starts)
    own: dict[str, Any] = {}
    # Layers come and go before their attributes change, norms before their eps and squeeze-and-excitation before its
    # form, in whatever order they are given.
    first = {"layer": 0, "norms": 1, "squeeze": 1}
    for change in sorted(changes, key=lambda change: first.get(change.attribute, 2)):
        if change.slot is None:
            if change.attribute in ("in_channels", "pooling"):
                own[change.attribute] = change.found
            continue
        slot, layer = patchwork.slots[change.slot], layers[change.slot]
        if change.attribute == "layer":
            layers[change.slot] = slot.found
        elif layer is not None and slot.found is not None:
            layers[change.slot] = _changed(layer, slot.found, change.attribute)
        if change.attribute in ("layer", "shortcut"):
            starts[change.slot] = _start(slot.found, change.slot, patchwork.slots, found=True)
    return replace(patchwork, layers=tuple(layers), starts=tuple(starts), **own)


def _changed(layer: ChainLayer, found: ChainLayer, attribute: str) -> ChainLayer:
    """The layer with one attribute as found."""
    name, _, part = attribute.partition(".")
    if name == "squeeze" and part:
        if layer.squeeze is None or found.squeeze is None:
            return layer
        return replace(layer, squeeze=replace(layer.squeeze, **{part: getattr(found.squeeze, part)}))
    if name == "shortcut" and part:
        if layer.shortcut is None or found.shortcut is None:
            return layer
        return replace(layer, shortcut=replace(layer.shortcut, **{part: getattr(found.shortcut, part)}))
    if name == "norms":
        # Kinds and number only: what the norms share with the published ones stays.
        return replace(layer, norms=tuple(_like(norm, layer.norms) for norm in found.norms))
    if name in ("eps", "momentum"):
        pairs = zip(layer.norms, found.norms, strict=False)
        return replace(layer, norms=tuple(replace(norm, **{name: getattr(other, name)}) for norm, other in pairs))
    if name == "squeeze" and found.squeeze is not None:
        return replace(layer, squeeze=replace(found.squeeze, **_papers_form(found.squeeze)))
    if name == "padding":
        return replace(layer, padding=found.padding, zeros=found.zeros)
    return replace(layer, **{name: getattr(found, name)})


def _like(norm: BatchNorm, published: Sequence[BatchNorm]) -> BatchNorm:
    return replace(norm, eps=published[0].eps, momentum=published[0].momentum) if published else norm


def _of_network(expected: Chain, found: Chain) -> list[NetworkDifference]:
    pairs: list[tuple[str, object, object]] = [
        ("in_channels", expected.in_channels, found.in_channels),
        ("pooling", expected.pooling.kind, found.pooling.kind),
        ("dropout", expected.dropout, expected.dropout if found.dropout is None else found.dropout),
        ("drop_path", expected.drop_path, found.drop_path),
        ("final", expected.final, found.final),
        ("unfolded", (), found.unfolded),
    ]
    return [NetworkDifference(None, name, one, other) for name, one, other in pairs if not _same(one, other)]


def _of_slot(slot: AlignedSlot, slots: Sequence[AlignedSlot]) -> list[NetworkDifference]:
    expected, found = slot.expected, slot.found
    if expected is None or found is None:
        return [NetworkDifference(slot.index, "layer", expected, found)]
    pairs = [(name, getattr(expected, name), getattr(found, name)) for name in PLAIN]
    if found.grouping is not Grouping.DEPTHWISE:
        pairs.insert(0, ("out_channels", expected.out_channels, found.out_channels))
    pairs += [*_norm_pairs(expected, found), *_squeeze_pairs(expected.squeeze, found.squeeze)]
    pairs.append(("attention", _pathless(expected.attention), _pathless(found.attention)))
    unlike = [NetworkDifference(slot.index, name, one, other) for name, one, other in pairs if not _same(one, other)]
    return unlike + _of_shortcut(slot, slots)


def _norm_pairs(expected: ChainLayer, found: ChainLayer) -> list[tuple[str, object, object]]:
    pairs: list[tuple[str, object, object]] = [("norms", _kinds(expected), _kinds(found))]
    if not expected.norms or not found.norms:
        return pairs
    published = expected.norms[0]
    if all(norm.kind == "affine" and not norm.eps for norm in found.norms):
        return pairs  # a scale and a shift with nothing to tell the eps they were made with
    eps = tuple(norm.eps for norm in found.norms)
    pairs.append(("eps", (published.eps,) * len(eps), eps))
    momentum = tuple(norm.momentum for norm in found.norms)
    if published.momentum is not None and None not in momentum:
        pairs.append(("momentum", (published.momentum,) * len(momentum), momentum))
    return pairs


def _kinds(layer: ChainLayer) -> tuple[str, ...]:
    return tuple(_kind(norm) for norm in layer.norms)


def _kind(norm: BatchNorm) -> str:
    if norm.frozen:
        return f"{norm.kind} frozen"
    return norm.kind if norm.affine else f"{norm.kind} without affine"


def _squeeze_pairs(expected: SqueezeExcite | None, found: SqueezeExcite | None) -> list[tuple[str, object, object]]:
    if expected is None and found is not None:
        form = _papers_form(found)
        extra: list[tuple[str, object, object]] = [("squeeze", expected, found)]
        return extra + [(f"squeeze.{name}", value, getattr(found, name)) for name, value in form.items()]
    if expected is None or found is None:
        return [("squeeze", expected, found)]
    return [(f"squeeze.{name}", getattr(expected, name), getattr(found, name)) for name in SQUEEZE]


def _papers_form(found: SqueezeExcite) -> dict[str, Any]:
    """The form of `SQUEEZE_FORM`, as far as the one found has another."""
    return {name: value for name, value in SQUEEZE_FORM.items() if getattr(found, name) != value}


def _pathless(unit: AttentionUnit | None) -> AttentionUnit | None:
    return None if unit is None else replace(unit, path="")


def _of_shortcut(slot: AlignedSlot, slots: Sequence[AlignedSlot]) -> list[NetworkDifference]:
    """Presence, kind and start of the shortcut make one difference, what is done to the sum another."""
    expected, found = _shortcut(slot.expected), _shortcut(slot.found)
    unlike = []
    if not _same_shortcut(slot, slots):
        unlike.append(NetworkDifference(slot.index, "shortcut", expected, found))
    elif expected is not None and found is not None and expected.activation_after != found.activation_after:
        one, other = expected.activation_after, found.activation_after
        unlike.append(NetworkDifference(slot.index, "shortcut.activation_after", one, other))
    return unlike


def _shortcut(layer: ChainLayer | None) -> Shortcut | None:
    return None if layer is None else layer.shortcut


def _same_shortcut(slot: AlignedSlot, slots: Sequence[AlignedSlot]) -> bool:
    expected, found = _shortcut(slot.expected), _shortcut(slot.found)
    if expected is None or found is None:
        return expected is found
    starts = (
        _start(slot.expected, slot.index, slots, found=False),
        _start(slot.found, slot.index, slots, found=True),
    )
    return expected.kind is found.kind and _stable(starts[0], slots) == _stable(starts[1], slots)


def _start(layer: ChainLayer | None, index: int, slots: Sequence[AlignedSlot], *, found: bool) -> int | None:
    """The slot at which the layer's shortcut starts; spans count only the layers of its own chain."""
    if layer is None or layer.shortcut is None:
        return None
    own = [slot.index for slot in slots[: index + 1] if (slot.found if found else slot.expected) is not None]
    return own[max(0, len(own) - layer.shortcut.span)]


def _stable(start: int | None, slots: Sequence[AlignedSlot]) -> int | None:
    """The next slot both chains have: a layer missing or extra at a block's start does not move its shortcut."""
    while (
        start is not None and start + 1 < len(slots) and (slots[start].expected is None or slots[start].found is None)
    ):
        start += 1
    return start


def _common_start(slot: AlignedSlot, slots: Sequence[AlignedSlot]) -> int | None:
    expected = _start(slot.expected, slot.index, slots, found=False)
    if expected is None or slot.found is None or not _same_shortcut(slot, slots):
        return expected
    found = _start(slot.found, slot.index, slots, found=True)
    return expected if found is None else min(expected, found)


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
    return one == other
