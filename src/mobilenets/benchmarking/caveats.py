"""What a reader must know before believing a benchmark's differences, each in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from mobilenets.benchmarking.noise import relative_difference
from mobilenets.benchmarking.results import BenchmarkReport, Ratio
from mobilenets.evaluation.wording import three_digits
from mobilenets.machine import usable_cores

_DRIFT = 0.10
_TWINS = 0.05
_TIES_TOLD = 3  # of each batch size in full; the others by name
_SLOW_GOVERNORS = ("powersave", "ondemand", "conservative")


def find_warnings(report: BenchmarkReport) -> tuple[str, ...]:
    """Say what makes this report's figures doubtful; empty when nothing does."""
    return (*_machine(report), *_twins(report), *_drifts(report), *_ties(report))


def _machine(report: BenchmarkReport) -> Iterator[str]:
    cores = int(report.environment.get("cores", usable_cores()))
    load = float(report.environment.get("load at start", 0.0))
    if load > 0.25 * cores:
        yield (
            f"other programs kept {load:.1f} of {cores} cores busy when this began: times are too long, ratios doubtful"
        )
    governor = report.environment.get("governor", "")
    if governor in _SLOW_GOVERNORS:
        yield f"the processor's clock follows the governor {governor}: 'performance' gives steadier times"
    most = max((row.threads for row in report.rows), default=0)
    if most > cores:
        yield f"{most} threads were asked for on {cores} cores: they take turns, which no device would do"


def _twins(report: BenchmarkReport) -> Iterator[str]:
    for twins in report.noise:
        if relative_difference(twins.ratio) > _TWINS:
            yield (
                f"batch {twins.batch_size}: two processes of one and the same file differed by "
                f"{100 * relative_difference(twins.ratio):.0f} %: smaller differences mean nothing here"
            )


def _drifts(report: BenchmarkReport) -> Iterator[str]:
    for batch in report.batch_sizes:
        drifts = [one.drift for row in report.rows if (one := row.at(batch)) is not None]
        worst = max(drifts, key=relative_difference)
        if relative_difference(worst) > _DRIFT:
            word = "slower" if worst > 1 else "faster"
            share = 100 * relative_difference(worst)
            yield f"batch {batch}: the machine grew up to {share:.0f} % {word} while it was measured"


def _ties(report: BenchmarkReport) -> Iterator[str]:
    """Only the ties that matter to a choice: those with the fastest of each batch size."""
    for batch in report.batch_sizes:
        fastest = report.fastest(batch)
        if fastest is None:
            continue
        found = (report.ratio(row.label, fastest.label, batch) for row in report.rows if row is not fastest)
        ties = sorted((one for one in found if one is not None and not one.distinct), key=lambda one: one.ratio)
        for ratio in ties[:_TIES_TOLD]:
            yield tie(report, ratio)
        if len(ties) > _TIES_TOLD:
            yield f"batch {batch}: nor from {', '.join(one.first for one in ties[_TIES_TOLD:])}"


def tie(report: BenchmarkReport, ratio: Ratio) -> str:
    """Say that two rows can't be told apart: `too noisy to tell A from B: 3.1 ms and 3.2 ms, ratio 0.92 to 1.08`."""
    times = []
    for label in (ratio.first, ratio.second):
        measured = report.row(label).at(ratio.batch_size)
        times.append("not measured" if measured is None else f"{three_digits(measured.latency.median_ms)} ms")
    return (
        f"batch {ratio.batch_size}: too noisy to tell {ratio.first} from {ratio.second}: {times[0]} and {times[1]}, "
        f"ratio {ratio.low:.2f} to {ratio.high:.2f}"
    )
