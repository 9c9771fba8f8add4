"""The rules of every choice: chance level, "as fast as", and which of the compared networks is recommended, and why.

The recommendation: of the networks within the user's bounds, the most accurate one on the validation images sets the
mark. If cheaper ones score within a point of it and do not differ from it significantly on these images, the fastest of
these is recommended instead. Both are needed: on few images even a bad network does not differ significantly from a
good one. Cheaper means measurably faster, or as fast with fewer multiply-adds.

A network is chosen from as a `Contender`, which holds nothing of the test images, so that these can't be chosen by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.results import Bounds, Choice, Interval, Latency, PairedTest
from mobilenets.formatting import p_value

MARGIN = 1.0  # points of top-1
TIE = 1.10
"""What takes longer than another by more than this is never as fast, however noisy the machine."""
Distinct = Callable[[str, str], bool]
"""Whether the times of two candidates, by label, are measurably different."""
_DIGITS = 3


@dataclass(frozen=True)
class Contender:
    """A network as the choice sees it.

    Attributes:
        label: names it.
        top1: accuracy on the validation images, in percent.
        images: how many these are.
        parameters: of the network.
        macs: multiply-adds for one image.
        latency: by runtime, batch 1.
    """

    label: str
    top1: Interval
    images: int
    parameters: int
    macs: int
    latency: dict[str, Latency]


@dataclass(frozen=True)
class NearMiss:
    """The network that comes nearest to bounds that none fits, and the bounds loosened just enough to admit it.

    `loosened` names the fields of `Bounds` that had to change.
    """

    row: Contender
    bounds: Bounds
    loosened: tuple[str, ...]


def as_fast_as(time: float, other: float, *, distinct: bool) -> bool:
    """Whether a candidate of median `time` counts as fast as one of median `other`: the rule of all choices.

    It does where it takes no longer, or where the difference is not measurable and at most 10 %. Medians alone would
    not do, since one of two equal candidates always comes out ahead, nor would their spread: that of single calls says
    little of the error of a median. So `distinct` comes from a paired bootstrap over the rounds both were timed in,
    with a second process of the same file as a floor where there is one (`benchmarking.latency.ratios`). The 10 % are
    needed as well: on a noisy machine no difference is measurable.

    Args:
        time: median of the one, in any unit.
        other: median of the other, in the same.
        distinct: whether the two times are measurably different.
    """
    return time <= other or (time <= TIE * other and not distinct)


def choose(
    rows: Sequence[Contender],
    pairs: Sequence[PairedTest],
    bounds: Bounds,
    latency_key: str = "onnxruntime",
    distinct: Distinct = lambda first, second: True,
) -> Choice:
    """Choose a network within `bounds`, or say which bound to loosen, to what, and what that would give.

    Args:
        rows: the compared networks, as scored on the validation images.
        pairs: the paired tests between them; two networks without a test count as different.
        bounds: what the device and the task allow.
        latency_key: the runtime whose median latency counts, a key of `Contender.latency`.
        distinct: tells whether two networks' latencies are measurably different; by default medians decide.

    Raises:
        MobilenetsError: no rows, or a row that was not timed with `latency_key`.
    """
    _check(rows, latency_key)
    fitting = [row for row in rows if fits(row, bounds, latency_key)]
    if not fitting:
        return Choice(None, _why_none(nearest_miss(rows, bounds, latency_key), bounds, len(rows), latency_key))
    by_cost = sorted(fitting, key=lambda row: (_latency(row, latency_key), row.macs))
    best = max(by_cost, key=lambda row: row.top1.mean)
    tests = {frozenset((pair.first, pair.second)): pair for pair in pairs}

    def faster(one: Contender, other: Contender) -> bool:
        times = _latency(other, latency_key), _latency(one, latency_key)
        return not as_fast_as(*times, distinct=distinct(other.label, one.label))

    def cheaper_than_best(row: Contender) -> bool:
        return faster(row, best) or (not faster(best, row) and row.macs < best.macs)

    cheaper = [(row, tests.get(frozenset((row.label, best.label)))) for row in by_cost if cheaper_than_best(row)]
    among = _among(len(fitting), len(rows), bounds)
    matching = {
        row.label: (row, pair)
        for row, pair in cheaper
        if pair is not None and not pair.differs and best.top1.mean - row.top1.mean <= MARGIN
    }
    if not matching:
        lead = "is also the fastest" if best is by_cost[0] else "none is measurably faster"
        return Choice(best.label, _why_best(best, cheaper, len(fitting), among, latency_key, lead))
    quickest = next(iter(matching.values()))[0]
    tied = [row for row, _ in matching.values() if not faster(quickest, row)]
    row, pair = matching[min(tied, key=lambda one: (one.macs, _latency(one, latency_key))).label]
    if any(faster(other, row) for other in by_cost):
        lead = "is the fastest to match the best"
    else:
        lead = "is the fastest" if row is by_cost[0] else "is as fast as any"
    return Choice(row.label, _why_cheaper(row, best, pair, among, latency_key, lead))


def chance_level(labels: NDArray[np.integer]) -> float:
    """Accuracy in percent of always naming the most frequent class: what a network has to beat to be of use.

    Args:
        labels: class index of each image, `[N]`, at least one.
    """
    return 100 * float(np.bincount(labels).max()) / len(labels)


def fits(row: Contender, bounds: Bounds, latency_key: str = "onnxruntime") -> bool:
    """Whether a network keeps within all bounds (a value equal to its bound does)."""
    return not _excesses(row, bounds, latency_key)


def nearest_miss(rows: Sequence[Contender], bounds: Bounds, latency_key: str = "onnxruntime") -> NearMiss:
    """The network that fits after loosening the fewest bounds, of these the one by the smallest relative amount.

    With several bounds loosened the amounts add up; equals are decided by accuracy. The new values are rounded in the
    direction that still admits the network.
    """
    excess = {row.label: _excesses(row, bounds, latency_key) for row in rows}
    row = min(rows, key=lambda r: (len(excess[r.label]), sum(excess[r.label].values()), -r.top1.mean))
    loosened = tuple(excess[row.label])
    if "max_latency_ms" in loosened:
        bounds = replace(bounds, max_latency_ms=_round_up(_latency(row, latency_key)))
    if "max_params" in loosened:
        bounds = replace(bounds, max_params=row.parameters)
    if "min_top1" in loosened:
        bounds = replace(bounds, min_top1=_round_down(row.top1.mean))
    return NearMiss(row, bounds, loosened)


def _excesses(row: Contender, bounds: Bounds, latency_key: str) -> dict[str, float]:
    """The bounds a network breaks, by field name, each with how far it would have to move relative to its value."""
    latency = _latency(row, latency_key)
    broken = {}
    if bounds.max_latency_ms is not None and latency > bounds.max_latency_ms:
        broken["max_latency_ms"] = latency / bounds.max_latency_ms - 1
    if bounds.max_params is not None and row.parameters > bounds.max_params:
        broken["max_params"] = row.parameters / bounds.max_params - 1
    if bounds.min_top1 is not None and row.top1.mean < bounds.min_top1:
        broken["min_top1"] = 1 - row.top1.mean / bounds.min_top1
    return broken


def _check(rows: Sequence[Contender], latency_key: str) -> None:
    if not rows:
        raise MobilenetsError("there are no networks to choose from: compare at least one")
    labels = [row.label for row in rows]
    if len(set(labels)) < len(labels):
        raise MobilenetsError(f"networks need different labels, not {', '.join(labels)}")
    for row in rows:
        if latency_key not in row.latency:
            timed = ", ".join(sorted(row.latency)) or "no runtime"
            raise MobilenetsError(
                f"{row.label} was not timed with {latency_key} but with {timed}: choose by one of these"
            )


def _why_cheaper(row: Contender, best: Contender, pair: PairedTest, among: str, key: str, lead: str) -> str:
    gap = best.top1.mean - row.top1.mean
    surplus = (
        f"scores {gap:.1f} points more, which is not significant on {_images(best)}"
        if gap >= 0.05
        else "scores the same"
    )
    return (
        f"{row.label} {lead} ({_ms(_latency(row, key))}) {among}; "
        f"{best.label} ({_ms(_latency(best, key))}) {surplus} ({p_value(pair.p_adjusted)})."
    )


def _why_best(
    best: Contender,
    cheaper: Sequence[tuple[Contender, PairedTest | None]],
    fitting: int,
    among: str,
    key: str,
    lead: str,
) -> str:
    figures = f"{best.top1.mean:.1f} % of {_images(best)}, {_ms(_latency(best, key))}"
    if fitting == 1:
        return f"{best.label} is {among} ({figures})."
    if not cheaper:
        return f"{best.label} scores best {among} and {lead} ({figures})."
    rival, pair = max(cheaper, key=lambda one: one[0].top1.mean)
    gap = best.top1.mean - rival.top1.mean
    evidence = "not tested" if pair is None else p_value(pair.p_adjusted)
    return (
        f"{best.label} scores best {among} ({figures}); of the faster ones {rival.label} "
        f"({_ms(_latency(rival, key))}) comes nearest, {gap:.1f} points behind ({evidence})."
    )


def _why_none(miss: NearMiss, bounds: Bounds, compared: int, key: str) -> str:
    row = miss.row
    changes = " and ".join(_change(name, miss.bounds) for name in miss.loosened)
    none = "The only network compared is not" if compared == 1 else f"None of the {compared} networks is"
    several = "" if len(miss.loosened) == 1 else "; no single bound is enough"
    return (
        f"{none} {_within(bounds)}. Loosen {changes} to get {row.label} ({row.top1.mean:.1f} % of "
        f"{_images(row)}, {_ms(_latency(row, key))}, {row.parameters:,} parameters){several}."
    )


def _among(fitting: int, compared: int, bounds: Bounds) -> str:
    within = _within(bounds)
    if fitting == 1:
        return "the only network compared" if compared == 1 else f"the only one of {compared} networks {within}"
    return f"of the {fitting} networks {within}".rstrip()


def _within(bounds: Bounds) -> str:
    limits = []
    if bounds.max_latency_ms is not None:
        limits.append(f"within {bounds.max_latency_ms:g} ms")
    if bounds.max_params is not None:
        limits.append(f"within {bounds.max_params:,} parameters")
    if bounds.min_top1 is not None:
        limits.append(f"at {bounds.min_top1:g} % or better")
    return " and ".join(limits)


def _change(name: str, bounds: Bounds) -> str:
    return {
        "max_latency_ms": f"the latency to {bounds.max_latency_ms} ms",
        "max_params": f"the parameters to {bounds.max_params or 0:,}",
        "min_top1": f"the accuracy to {bounds.min_top1} %",
    }[name]


def _images(row: Contender) -> str:
    return "1 validation image" if row.images == 1 else f"{row.images:,} validation images"


def _latency(row: Contender, latency_key: str) -> float:
    return row.latency[latency_key].median_ms


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:,.0f} ms"


def _round_up(value: float) -> float:
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - _DIGITS) if value > 0 else 1.0
    rounded = float(f"{math.ceil(value / step) * step:.{_DIGITS}g}")
    return rounded if rounded >= value else value


def _round_down(value: float) -> float:
    rounded = math.floor(value * 10) / 10
    return rounded if rounded <= value else value
