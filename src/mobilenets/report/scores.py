"""Scores in sentences, for every report: intervals, latencies, tests between networks, runs and classes."""

from __future__ import annotations

from collections.abc import Iterable

from mobilenets.evaluation.results import Bounds, Comparison, Interval, Latency, Metrics, PairedTest, SeedRun
from mobilenets.formatting import NBSP, plural, printable, signed, three_digits, unbroken_p_value

RUNTIME_NAMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}
IMBALANCED = 1.5  # how many times as many images the largest class has as the smallest, for it to matter
WORST = 3  # classes named


def interval_range(interval: Interval) -> str:
    """Write an interval's ends, in percent: `96.1–98.4`."""
    return f"{interval.low:.1f}–{interval.high:.1f}"


def latency_tail(latency: Latency) -> str:
    """Write a latency's 95th percentile, in milliseconds."""
    return f"p95 {three_digits(latency.p95_ms)}"


def runtime_name(key: str) -> str:
    """Return the name people use for a runtime's key; an unknown key is its own name."""
    return RUNTIME_NAMES.get(key, key)


def runtimes(latencies: Iterable[dict[str, Latency]]) -> tuple[str, ...]:
    """List every runtime that was measured: the known ones in their usual order, then the others by name."""
    found = {key for measured in latencies for key in measured}
    known = tuple(key for key in RUNTIME_NAMES if key in found)
    return known + tuple(sorted(found.difference(known)))


def pair_sentence(pair: PairedTest) -> str:
    """Say what a paired test found: `A beats B by 1.3 points [0.4, 2.2], p = 0.010`, or no significant difference.

    The p-value is the one adjusted for the number of pairs; the interval is always that of the difference as worded.
    """
    turned = pair.difference < 0
    better, worse = (pair.second, pair.first) if turned else (pair.first, pair.second)
    low, high = (-pair.high, -pair.low) if turned else (pair.low, pair.high)
    points = f"{abs(pair.difference):.1f} points [{signed(low)}, {signed(high)}], {unbroken_p_value(pair.p_adjusted)}"
    if pair.differs:
        return f"{better} beats {worse} by {points}"
    return f"{better} and {worse} do not differ significantly: {points}"


def parted_pairs(comparison: Comparison) -> tuple[tuple[PairedTest, ...], tuple[PairedTest, ...]]:
    """Part the tests into those with the recommended network (the most accurate, if none fits) and the others.

    The first are what a reader asks about: is it really better, or as good?
    """
    if not comparison.rows:
        return (), comparison.pairs
    best = max(comparison.rows, key=lambda row: row.deciding_top1.mean)
    label = comparison.choice.label or best.label
    about = tuple(pair for pair in comparison.pairs if label in (pair.first, pair.second))
    return about, tuple(pair for pair in comparison.pairs if pair not in about)


def bound_phrases(bounds: Bounds) -> tuple[str, ...]:
    """Say each bound that was set: `latency at most 5 ms`, ...; empty when there is none."""
    phrases = []
    if bounds.max_latency_ms is not None:
        phrases.append(f"latency at most {bounds.max_latency_ms:g}{NBSP}ms")
    if bounds.max_params is not None:
        phrases.append(f"at most {bounds.max_params:,} parameters")
    if bounds.min_top1 is not None:
        phrases.append(f"accuracy at least {bounds.min_top1:g}{NBSP}%")
    return tuple(phrases)


def deciding_split(comparison: Comparison) -> str:
    """The images the choice went by: `validation`, or `test` in a comparison of a version that had no others."""
    return "validation" if comparison.data.validation_images else "test"


def split_sentence(comparison: Comparison) -> str:
    """Say which images the choice went by, and how often and when the test images were read."""
    if not comparison.data.validation_images:
        return "Made before there were validation images: the choice went by the test images, which flatters it."
    chosen = f"The choice went by {plural(comparison.data.validation_images, 'validation image')}"
    tests = plural(comparison.data.test_images, "test image")
    runs = [[one for one in run.test_readings if not one.repeats] for row in comparison.rows for run in row.runs]
    times = sorted({one.at for run in runs for one in run})
    if not times:
        return f"{chosen}; when the {tests} were read is not recorded."
    when = _time(times[0]) if times[0] == times[-1] else f"{_time(times[0])} to {_time(times[-1])}"
    again = sum(len(run) > 1 for run in runs)
    if again:
        often = f"more than once ({again} of {plural(len(runs), 'run')}, up to {max(map(len, runs))} times)"
        return f"{chosen}, not by the {tests}; these were read {often}: {when}."
    return f"{chosen}, not by the {tests}; these were read once for each network trained: {when}."


def _time(stamp: str) -> str:
    """`2026-01-02T03:04:05+00:00` as `2026-01-02 03:04:05 UTC`."""
    return stamp.replace("T", " ").replace("+00:00", " UTC")


def run_line(run: SeedRun) -> str:
    """Say how one run scored, in a line."""
    validation = (
        ""
        if run.validation is None
        else f"validation {run.validation.top1:.2f} % ({plural(run.validation.count, 'image')}), "
    )
    times = len([one for one in run.test_readings if not one.repeats])
    read = {0: "", 1: ", read once"}.get(times, f", read {times} times")
    return (
        f"test accuracy {run.test.top1:.2f} % ({plural(run.test.count, 'image')}{read}), {validation}"
        f"training images {run.train.top1:.2f} %, calibration error {run.test.ece:.1f} %"
        f"{'; each answered together with its mirror image' if run.test.flip_test else ''}"
    )


def imbalanced(metrics: Metrics) -> bool:
    """Whether the largest class has half as many images again as the smallest, so that top-1 hides the small ones."""
    counts = [score.count for score in metrics.classes if score.count]
    return bool(counts) and max(counts) >= IMBALANCED * min(counts)


def class_lines(metrics: Metrics) -> tuple[str, ...]:
    """Say what top-1 hides: the macro averages where classes are of unequal size, and which classes fare worst."""
    lines = []
    counts = [score.count for score in metrics.classes if score.count]
    if imbalanced(metrics):
        lines.append(
            f"macro recall {metrics.macro_recall:.2f} %, precision {metrics.macro_precision:.2f} %, F1 "
            f"{metrics.macro_f1:.2f} % (classes have {min(counts):,} to {max(counts):,} images, each weighs the same)"
        )
    present = sorted((score for score in metrics.classes if score.count), key=lambda score: score.recall)
    worst = [score for score in present[:WORST] if score.recall < metrics.top1]
    if worst:
        listed = ", ".join(f"{printable(score.name)} {score.recall:.1f} %" for score in worst)
        lines.append(f"least recognised: {listed}")
    return tuple(lines)
