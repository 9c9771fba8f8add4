"""The rule: the fastest way whose accuracy holds; among those as fast, the smallest file, then the most exact."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenets.artifact.description import PRECISIONS
from mobilenets.deployment.results import Decision, Way
from mobilenets.evaluation.selection import Distinct, as_fast_as
from mobilenets.formatting import three_digits
from mobilenets.quantization.results import points, within

SAME_SIZE = 1.05
"""Files of one network in two formats differ by their wrapping; that is no reason to choose between them."""


def choose(ways: Sequence[Way], max_drop: float, distinct: Distinct) -> Decision:
    """Choose the way to keep.

    Args:
        ways: at least one.
        max_drop: points of top-1 it may lose.
        distinct: tells whether two ways' times differ by more than noise.

    Returns:
        The choice. Where no way is within `max_drop`, it is the float file that loses least, and `holds` is False.

    Raises:
        ValueError: there are no ways.
    """
    if not ways:
        raise ValueError("there is no way to choose from")
    holding = [way for way in ways if within(way.drop, max_drop)]
    if not holding:
        return _nothing_holds(ways, max_drop)
    fastest = min(holding, key=_time)
    tied = [way for way in holding if way is fastest or _ties(way, fastest, distinct)]
    smallest = min(way.file_bytes for way in tied)
    kept = min(tied, key=lambda way: (way.file_bytes > SAME_SIZE * smallest, *_exactness(way), way.threads, _time(way)))
    return Decision(
        label=kept.label,
        holds=True,
        reason=_reason(kept, fastest, tied, len(ways) - len(holding), max_drop),
        tied=tuple(way.label for way in tied if way is not kept),
    )


def _ties(way: Way, fastest: Way, distinct: Distinct) -> bool:
    return as_fast_as(_time(way), _time(fastest), distinct=distinct(way.label, fastest.label))


def _time(way: Way) -> float:
    return way.latency.median_ms


def _exactness(way: Way) -> tuple[int, float]:
    """Smaller is more exact: the arithmetic first, since accuracies of a few hundred images differ by luck."""
    return PRECISIONS.index(way.precision), way.drop


def _nothing_holds(ways: Sequence[Way], max_drop: float) -> Decision:
    floats = [way for way in ways if way.stored != "int8"] or list(ways)
    kept = min(floats, key=lambda way: (way.drop, _time(way)))
    return Decision(
        label=kept.label,
        holds=False,
        reason=f"No way to run it here is within {points(max_drop)} of the network in PyTorch: {kept.label} comes "
        f"nearest of the float files, {kept.drop:.2f} points below, and is kept. Allow more with --max-drop.",
    )


def _reason(kept: Way, fastest: Way, tied: Sequence[Way], fallen: int, max_drop: float) -> str:
    time = f"{three_digits(_time(kept))} ms"
    lost = f"loses {kept.drop:.2f} points" if kept.drop > 0 else "loses no accuracy"
    out = f" {fallen} of the others lose{'s' if fallen == 1 else ''} more than allowed." if fallen else ""
    if len(tied) == 1:
        return f"The fastest of those within {points(max_drop)}: {time} an image; it {lost}.{out}"
    if kept is fastest:
        why = "it is also the smallest or most exact of them"
    elif fastest.file_bytes > SAME_SIZE * kept.file_bytes:
        why = f"it is smaller than {fastest.label}, which is not measurably slower"
    else:
        why = f"it is more exact, or uses fewer threads, than {fastest.label}, which is not measurably slower"
    others = "1 other is" if len(tied) == 2 else f"{len(tied) - 1} others are"
    return (
        f"As fast as any within {points(max_drop)}, {time} an image; it {lost}. "
        f"{others} not measurably slower; {why}.{out}"
    )
