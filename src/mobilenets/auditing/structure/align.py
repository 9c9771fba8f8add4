"""The found chain aligned with the published one, layer by layer: Needleman-Wunsch with affine gaps.

A missing or extra repeat is one gap of whole blocks, so opening a gap costs more than widening it, and one that starts
or ends inside a block a little more. Needleman and Wunsch 1970; affine gaps by Gotoh 1982.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import inf, log2
from typing import NamedTuple

from mobilenets.auditing.structure.differences import AlignedSlot
from mobilenets.auditing.structure.layers import ChainLayer, Grouping, TablePlace

GAP_OPEN = 2.0
GAP_EXTEND = 0.35
RAGGED = 0.3
"""What it costs more to start or end a gap inside a block."""
SWITCH = 1.0
"""What it costs more to leave out found layers right beside published ones left out: such layers are each other's."""

_BOTH, _MISSING, _EXTRA = 0, 1, 2


@dataclass(frozen=True)
class Alignment:
    """The slots, and what laying the chains together cost: 0 for equal chains."""

    slots: tuple[AlignedSlot, ...]
    cost: float


def align(
    expected: Sequence[ChainLayer], places: Sequence[TablePlace], found: Sequence[ChainLayer]
) -> tuple[AlignedSlot, ...]:
    """Lay the layers of two chains together so that what differs is least.

    Args:
        expected: the published layers.
        places: one a published layer; they say where blocks begin.
        found: the layers of the network audited.
    """
    return alignment(expected, places, found).slots


def alignment(
    expected: Sequence[ChainLayer], places: Sequence[TablePlace], found: Sequence[ChainLayer], *, by_width: bool = True
) -> Alignment:
    """`align` with its cost; without `by_width` whatever the channels, for a network whose width is not known yet."""
    borders = _published_borders(places)
    inner = [place.part == "expand" for place in places]
    distances = _distances(_features(expected, by_width), inner, _features(found, by_width))
    steps, total = _cheapest(distances, borders, _found_borders(found))
    slots: list[AlignedSlot] = []
    i = j = 0
    for step in steps:
        one = i if step != _EXTRA else None
        other = j if step != _MISSING else None
        slots.append(
            AlignedSlot(
                index=len(slots),
                expected=None if one is None else expected[one],
                found=None if other is None else found[other],
                reference_index=one,
                found_index=other,
            )
        )
        i, j = i + (one is not None), j + (other is not None)
    return Alignment(tuple(slots), total)


class _Features(NamedTuple):
    """What of a layer the alignment looks at; equal layers share one entry of the cache."""

    grouping: Grouping
    kernel: int
    channels: int
    stride: int
    activation: str
    squeeze: bool
    pooled: bool
    attention: bool
    shortcut: int
    norms: int
    extras: tuple[bool, bool, int]


def _features(layers: Sequence[ChainLayer], by_width: bool) -> list[_Features]:
    return [
        _Features(
            grouping=layer.grouping,
            kernel=layer.kernel,
            # Those of a depthwise layer follow from the layer before.
            channels=layer.out_channels if by_width and layer.grouping is not Grouping.DEPTHWISE else 0,
            stride=layer.stride,
            activation=layer.activation,
            squeeze=layer.squeeze is not None,
            pooled=layer.pooled,
            attention=layer.attention is not None,
            shortcut=0 if layer.shortcut is None else layer.shortcut.span,
            norms=len(layer.norms),
            extras=(layer.anti_alias, layer.layer_scale, layer.multiplier),
        )
        for layer in layers
    ]


@lru_cache(maxsize=65536)
def _distance(one: _Features, other: _Features, inner: bool) -> float:
    """How unlike two layers are; two gaps cost about 4, so what costs more is not laid together.

    `inner`: it widens a block, so that its channels follow from a ratio and one fault is in every block.
    """
    if one == other:
        return 0.0
    if one.attention != other.attention:
        return 6.0
    total = 4.0 * (one.pooled != other.pooled)
    # A dense filter in place of a depthwise one is a known fault; a 1x1 in place of a filter is another layer.
    total += 1.2 * (one.grouping is not other.grouping)
    total += 2.5 * ((one.kernel == 1) != (other.kernel == 1)) + 0.3 * (one.kernel != other.kernel)
    if one.channels and other.channels:
        total += min(2.0, abs(log2(one.channels / other.channels))) * (0.5 if inner else 1.0)
    total += 0.5 * (one.stride != other.stride)
    # What hangs on a layer is often wrong in all of them at once, which is one fault: it weighs little.
    total += 0.25 * ((one.activation == "none") != (other.activation == "none"))
    total += 0.05 * (one.activation != other.activation)
    total += 0.25 * (one.squeeze != other.squeeze)
    total += 0.2 * ((one.shortcut == 0) != (other.shortcut == 0)) + 0.05 * (one.shortcut != other.shortcut)
    return total + 0.05 * (one.norms != other.norms) + 0.1 * (one.extras != other.extras)


def _published_borders(places: Sequence[TablePlace]) -> list[bool]:
    """Whether a block begins before layer i, for every i and the end."""
    inner = [before.block != after.block or after.block == 0 for before, after in pairwise(places)]
    return [True, *inner, True] if places else [True]


def _found_borders(layers: Sequence[ChainLayer]) -> list[bool]:
    """The same of a chain without places: a block ends with a shortcut, or with the 1x1 behind a filter."""
    borders = [True]
    for before, layer in zip([None, *layers], layers, strict=False):
        ends = layer.kernel == 1 and not layer.pooled and before is not None and before.kernel > 1
        borders.append(ends or layer.shortcut is not None or before is None)
    if layers:
        borders[-1] = True
    return borders


def _distances(expected: Sequence[_Features], inner: Sequence[bool], found: Sequence[_Features]) -> list[list[float]]:
    """`_distance` of every pair; a MobileNet repeats its layers, so few of them have to be computed."""
    kinds = list(dict.fromkeys(found))
    rows: dict[tuple[_Features, bool], list[float]] = {}
    for one, is_inner in zip(expected, inner, strict=True):
        if (one, is_inner) not in rows:
            known = {other: _distance(one, other, is_inner) for other in kinds}
            rows[one, is_inner] = [known[other] for other in found]
    return [rows[key] for key in zip(expected, inner, strict=True)]


@dataclass(frozen=True)
class _Row:
    """Cheapest ways to have laid the first i published layers beside the first j found ones, for every j.

    `best[j]`: however the last step was, `step[j]` says how. `missing[j]`: the last step left a published layer alone,
    `widens[j]` says whether the one before did too; `extra_widens[j]` the same of found layers.
    """

    best: list[float]
    missing: list[float]
    step: list[int]
    widens: list[bool]
    extra_widens: list[bool]


def _cheapest(
    distances: Sequence[Sequence[float]], borders: Sequence[bool], found_borders: Sequence[bool]
) -> tuple[list[int], float]:
    """The steps of the cheapest path, first to last, and its cost."""
    rows = [_first_row(found_borders)]
    for i, distance in enumerate(distances, start=1):
        ragged = [0.0 if border else RAGGED for border in borders[i - 1 : i + 1]]
        rows.append(_next_row(rows[-1], distance, ragged, found_borders))
    return _trace(rows), rows[-1].best[-1]


def _first_row(found_borders: Sequence[bool]) -> _Row:
    """Nothing published yet: all that was found so far is extra."""
    count = len(found_borders)
    extra = [GAP_OPEN + GAP_EXTEND * j + (0.0 if found_borders[j] else RAGGED) for j in range(1, count)]
    widens = [j > 1 for j in range(count)]
    return _Row([0.0, *extra], [inf] * count, [_BOTH] + [_EXTRA] * (count - 1), [False] * count, widens)


def _next_row(above: _Row, distance: Sequence[float], ragged: Sequence[float], found_borders: Sequence[bool]) -> _Row:
    """One published layer more: `distance` to each found layer, `ragged` of its two borders."""
    count = len(found_borders)
    row = _Row([inf] * count, [inf] * count, [_MISSING] * count, [False] * count, [False] * count)
    opening = GAP_OPEN + GAP_EXTEND + ragged[0]
    extra = inf
    for j in range(count):
        switch = SWITCH if above.step[j] == _EXTRA else 0.0
        widened, opened = above.missing[j] + GAP_EXTEND, above.best[j] + opening + switch
        row.widens[j] = widened < opened
        row.missing[j] = min(widened, opened)
        row.best[j] = row.missing[j] + ragged[1]
        if j == 0:
            continue
        both = above.best[j - 1] + distance[j - 1]
        opened = row.best[j - 1] + GAP_OPEN + GAP_EXTEND + (0.0 if found_borders[j - 1] else RAGGED)
        opened += SWITCH if row.step[j - 1] == _MISSING else 0.0
        row.extra_widens[j] = extra + GAP_EXTEND < opened
        extra = min(extra + GAP_EXTEND, opened)
        closed = extra if found_borders[j] else extra + RAGGED
        if both <= min(row.best[j], closed):
            row.best[j], row.step[j] = both, _BOTH
        elif closed < row.best[j]:
            row.best[j], row.step[j] = closed, _EXTRA
    return row


def _trace(rows: Sequence[_Row]) -> list[int]:
    """The steps that led to the last cell."""
    steps: list[int] = []
    i, j = len(rows) - 1, len(rows[0].best) - 1
    inside: int | None = None  # the gap that is being widened
    while i or j:
        row = rows[i]
        step = row.step[j] if inside is None else inside
        steps.append(step)
        inside = None
        if step == _MISSING:
            inside = _MISSING if row.widens[j] else None
            i -= 1
        elif step == _EXTRA:
            inside = _EXTRA if row.extra_widens[j] else None
            j -= 1
        else:
            i, j = i - 1, j - 1
    return steps[::-1]
