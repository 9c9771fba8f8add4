"""The ways of counting a network's parameters and multiply-adds that people use, each computed from its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mobilenets.auditing.catalogue.cost_parts import CostParts
from mobilenets.auditing.catalogue.figures import PrintedFigure

AGREES = "agrees"
V3_LARGE_PENULTIMATE = 1280
"""Channels before the classifier in V2 and V3 Large; V3 Small has 1,024."""


@dataclass(frozen=True)
class Reading:
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


def parameter_readings(parts: CostParts) -> tuple[Reading, ...]:
    """Ways to count parameters, simplest first."""
    plain = parts.parameters
    single = [
        *_rounded(plain),
        *(
            Reading(key, short, reason, plain + extra)
            for key, short, reason, extra in (*_norm_extras(parts), *_other_extras(parts))
        ),
    ]
    background = parts.features + 1
    pairs = [
        Reading(
            f"{key}+background",
            f"{short}, {parts.num_classes + 1:,} classes",
            f"{reason}; and a background class, so {parts.num_classes + 1:,} outputs",
            plain + extra + background,
        )
        for key, short, reason, extra in _norm_extras(parts)
    ]
    return (_plain(plain), *single, *pairs)


def mac_readings(parts: CostParts, other_sizes: Mapping[int, int]) -> tuple[Reading, ...]:
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
        Reading("doubled", "2x: operations", "multiplications and additions counted singly, twice as many", 2 * plain),
        Reading("no stem", "without the stem", "the first convolution left out", plain - parts.stem_macs),
        Reading("no classifier", "without the classifier", "the last linear layer left out", plain - classifier),
        Reading("background", "1 class more", "a background class beside the others", plain + parts.features),
        *_head_readings(parts, plain, parts.last.macs_per_output if parts.last else 0),
        Reading(
            "norm channels",
            "+1 a norm channel",
            "one operation more for each channel of the batch norms, whatever the positions",
            plain + parts.norm_channels,
        ),
        Reading(
            "operations",
            "2x + elementwise ops",
            "multiplications and additions counted singly, and one operation for each element of a bias, an "
            "activation or a shortcut's sum",
            2 * plain + parts.element_operations,
        ),
        *_expansion(plain, parts, macs=True),
    ]
    readings += [
        Reading(f"at {size}", f"count at {size} px", f"the count at {size} pixels", macs)
        for size, macs in sorted(other_sizes.items())
    ]
    return tuple(readings)


def _plain(count: int) -> Reading:
    return Reading(AGREES, "", "the network's own count", count)


def _rounded(count: int) -> tuple[Reading, ...]:
    return (
        Reading("truncated", "cut, not rounded", "digits cut off instead of rounded", count, "down"),
        Reading("rounded up", "rounded up", "rounded up", count, "up"),
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


def _head_readings(parts: CostParts, plain: int, per_output: int) -> Iterable[Reading]:
    """The last layer at other widths: V3 Large's, and scaled with the width factor where the paper does not, or not."""
    last = parts.last
    if last is None:
        return
    each = per_output + parts.num_classes
    if last.width < V3_LARGE_PENULTIMATE:
        wide = V3_LARGE_PENULTIMATE
        reason = f"{wide:,} channels before the classifier instead of {last.width:,}"
        yield Reading("wide head", f"{wide:,}-wide head", reason, plain + (wide - last.width) * each)
    if parts.width_mult < 1:
        scaled = round(last.width * parts.width_mult)
        reason = f"the last layer shrunk with the width too, to {scaled:,} channels"
        yield Reading("scaled head", f"{scaled:,}-wide head", reason, plain + (scaled - last.width) * each)
    if parts.width_mult > 1:
        unscaled = round(last.width / parts.width_mult)
        reason = f"the last layer not grown with the width: {unscaled:,} channels"
        yield Reading("unscaled head", f"{unscaled:,}-wide head", reason, plain + (unscaled - last.width) * each)


def _expansion(plain: int, parts: CostParts, *, macs: bool) -> Iterable[Reading]:
    """The 1x1 expansion that t = 1 makes superfluous, kept: weights and batch norm, as many channels as the stem's."""
    if parts.bare_expansion is None:
        return
    channels, positions = parts.bare_expansion
    extra = channels * channels * positions if macs else channels * channels + 2 * channels
    yield Reading("kept expansion", "expansion at t=1 kept", "a 1x1 expansion kept where t = 1", plain + extra)
