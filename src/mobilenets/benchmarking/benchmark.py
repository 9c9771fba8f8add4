"""Measuring exported files on this machine: every runtime, arithmetic and number of threads side by side.

Which of them is fastest can't be known beforehand (8 bits are slower than float for some networks in some runtimes),
so it is measured, here, with everything alternating. The method is described where it is implemented: `worker` (a
process each, and why) and `latency` (alternation, and whether a difference is measurable). No PyTorch here, unless it
is asked for as a baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

from mobilenets.arguments import MAX_BATCH, GivenPaths, names_of, numbers_of, paths_of
from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.benchmarking.candidates import (
    BenchmarkCandidate,
    Wanted,
    distinctly_labelled,
    find_candidates,
    find_peers,
)
from mobilenets.benchmarking.environment import environment
from mobilenets.benchmarking.latency import Timed, ratios, relative_difference, time_turns
from mobilenets.benchmarking.process import REPEAT, Started, Worker, start_all
from mobilenets.benchmarking.results import Accuracy, BenchmarkReport, BenchmarkRow, Failure, Measurement, Ratio
from mobilenets.errors import MobilenetsError
from mobilenets.formatting import three_digits
from mobilenets.machine import usable_cores
from mobilenets.progress import Update

_DRIFT = 0.10
_REPEAT_DIFFERENCE = 0.05
_TIES_TOLD = 3  # of each batch size in full; the others by name
_SLOW_GOVERNORS = ("powersave", "ondemand", "conservative")


def find_warnings(report: BenchmarkReport) -> tuple[str, ...]:
    """Say what makes this report's figures doubtful; empty when nothing does."""
    return (*_machine(report), *_repeats(report), *_drifts(report), *_ties(report))


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


def _repeats(report: BenchmarkReport) -> Iterator[str]:
    for repeat in report.noise:
        if relative_difference(repeat.ratio) > _REPEAT_DIFFERENCE:
            yield (
                f"batch {repeat.batch_size}: two processes of one and the same file differed by "
                f"{100 * relative_difference(repeat.ratio):.0f} %: smaller differences are noise"
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
            yield f"batch {batch}: nor are {', '.join(one.first for one in ties[_TIES_TOLD:])}"


def tie(report: BenchmarkReport, ratio: Ratio) -> str:
    """Say that two rows are not measurably different: `A is not measurably slower than B: 3.2 ms and 3.1 ms`."""
    times = []
    for label in (ratio.first, ratio.second):
        measured = report.row(label).at(ratio.batch_size)
        times.append("not measured" if measured is None else f"{three_digits(measured.latency.median_ms)} ms")
    return (
        f"batch {ratio.batch_size}: {ratio.first} is not measurably slower than {ratio.second}: "
        f"{times[0]} and {times[1]}, ratio {ratio.low:.2f} to {ratio.high:.2f}"
    )


MAX_SECONDS, MAX_STARTS = 86_400, 1000


@dataclass(frozen=True)
class BenchmarkSettings:
    """How much to measure.

    Attributes:
        batch_sizes: images a call.
        seconds: measured time of each candidate at each batch size; the waits between turns come on top, about as long.
        starts: fresh processes of each candidate for cold start and peak memory.

    Raises:
        MobilenetsError: a value that can't be.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    seconds: float = 2.0
    starts: int = 3

    def __post_init__(self) -> None:
        """Refuse what nothing could be measured with."""
        if not self.batch_sizes or not all(1 <= size <= MAX_BATCH for size in self.batch_sizes):
            raise MobilenetsError(
                f"batch sizes are whole numbers from 1 to {MAX_BATCH}, not {self.batch_sizes or 'none'}"
            )
        if not 0 <= self.seconds <= MAX_SECONDS:
            raise MobilenetsError(f"seconds of a benchmark are from 0 to {MAX_SECONDS:,}, a day, not {self.seconds:g}")
        if not 1 <= self.starts <= MAX_STARTS:
            raise MobilenetsError(f"starts of a benchmark are from 1 to {MAX_STARTS:,}, not {self.starts}")


def benchmark(
    artifacts: GivenPaths,
    *,
    against: str | Sequence[str] = (),
    backends: str | Sequence[str] = (),
    precisions: str | Sequence[str] = (),
    threads: int | Sequence[int] = (),
    batch_sizes: int | Sequence[int] = (1, 32),
    seconds: float = 2.0,
    starts: int = 3,
    progress: Update | None = None,
) -> BenchmarkReport:
    """Measure latency, throughput, memory, size and cold start of every way to run these files here.

    Args:
        artifacts: a file or folder, or several, as `mobilenets export` or `quantize` wrote.
        against: baselines: `pytorch`, `onnxruntime`, `openvino` (those two with the runtime's defaults), an artifact,
            or any model file.
        backends: restrict to these; by default every one installed.
        precisions: restrict to these; by default every one the backends have on this processor.
        threads: numbers of threads; by default 1 and every usable core.
        batch_sizes: images a call.
        seconds: measured time of each candidate at each batch size.
        starts: fresh processes of each candidate for cold start and peak memory.
        progress: told what is going on, how far it is, and out of how much.

    Returns:
        A row for every candidate that ran; those that did not are its `failures`.

    Raises:
        ArtifactError: a file that is missing, damaged or no artifact.
        BackendError: an unknown backend, precision or peer, or no candidate could be measured.
        MissingExtraError: a backend or peer asked for that is not installed.
        MobilenetsError: no artifact, a batch below 1, or candidates that don't fit into memory together.
    """
    settings = BenchmarkSettings(numbers_of(batch_sizes), seconds, starts)
    against, given = names_of(against), tuple(dict.fromkeys(paths_of(artifacts)))
    if not given:
        raise MobilenetsError("there is nothing to measure: name at least one artifact")
    opened = [read_artifact(path) for path in given]
    wanted = Wanted(names_of(backends), names_of(precisions), numbers_of(threads))
    candidates = distinctly_labelled(
        find_candidates(opened, wanted, against) + find_peers(against, opened, wanted.thread_counts)
    )
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    about = environment()  # first: the load is to be that of others
    tell: Update = progress or (lambda what, done, total: None)
    with ExitStack() as stack:
        workers, begun, failures = start_all(candidates, settings.starts, stack, tell)
        measured = _measure(workers, settings, tell)
    rows = tuple(_row(one, begun[one.label], measured.of(one.label)) for one in candidates if one.label in begun)
    report = BenchmarkReport(
        created=created,
        environment=about,
        settings={
            "batch sizes": ", ".join(map(str, settings.batch_sizes)),
            "seconds": f"{settings.seconds:g}",
            "starts": str(settings.starts),
        },
        rows=tuple(row for row in rows if row.measurements),
        ratios=measured.ratios,
        noise=measured.noise,
        failures=(*failures, *measured.failures),
    )
    report = report.with_accuracies(_known_accuracies(report, opened))
    return replace(report, warnings=find_warnings(report))


@dataclass(frozen=True)
class _Measured:
    """All batch sizes together."""

    timed: Mapping[int, Timed]
    ratios: tuple[Ratio, ...]
    noise: tuple[Ratio, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(failure for timed in self.timed.values() for failure in timed.failures)

    def of(self, label: str) -> tuple[Measurement, ...]:
        return tuple(timed.measurement(label, batch) for batch, timed in self.timed.items() if label in timed.calls)


def _measure(workers: Mapping[str, Worker], settings: BenchmarkSettings, tell: Update) -> _Measured:
    timed: dict[int, Timed] = {}
    pairs: list[Ratio] = []
    noise: list[Ratio] = []
    alive = dict(workers)
    for number, batch in enumerate(settings.batch_sizes):

        def progress(share: float, before: int = number) -> None:
            tell("timing, percent", round(100 * (before + share) / len(settings.batch_sizes)), 100)

        timed[batch] = time_turns(alive, batch, seconds=settings.seconds, progress=progress)
        # A process that crashed is left out of the batch sizes that follow.
        alive = {label: worker for label, worker in alive.items() if label in timed[batch].calls}
        found = _compare(timed[batch], batch)
        pairs += found[0]
        noise += found[1]
    return _Measured(timed, tuple(pairs), tuple(noise))


def _compare(timed: Timed, batch: int) -> tuple[tuple[Ratio, ...], tuple[Ratio, ...]]:
    """Ratios of every pair of candidates, and that of the repeat, which tells how large one must be to count."""
    repeat = next((label for label in timed.turns if label.endswith(REPEAT)), None)
    own = {label: turns for label, turns in timed.turns.items() if label != repeat}
    noise: tuple[Ratio, ...] = ()
    if repeat is not None and (first := repeat.removesuffix(REPEAT)) in own:
        noise = ratios({repeat: timed.turns[repeat], first: own[first]}, batch)
    floor = max((relative_difference(one.ratio) for one in noise), default=0.0)
    return (ratios(own, batch, floor) if own else ()), noise


def _known_accuracies(report: BenchmarkReport, artifacts: Sequence[Artifact]) -> dict[str, Accuracy]:
    """What the files themselves say, of rows that compute as the file was exported."""
    known: dict[tuple[str, str], Accuracy] = {}
    for artifact in artifacts:
        said = artifact.description.provenance
        if "top1" in said:
            accuracy = Accuracy(float(said["top1"]), said.get("top1 basis", ""))
            known[str(artifact.path), _arithmetic(artifact)] = accuracy
    own = (row for row in report.rows if row.source == "artifact")
    return {row.label: known[key] for row in own if (key := (row.path, row.precision)) in known}


def _arithmetic(artifact: Artifact) -> str:
    """What its own runtime computes it in; weights stored as fp16 are widened when they are loaded."""
    stored = artifact.description.precision
    return "fp32" if stored == "fp16" else stored


def _row(candidate: BenchmarkCandidate, start: Started, measurements: tuple[Measurement, ...]) -> BenchmarkRow:
    return BenchmarkRow(
        label=candidate.label,
        path=candidate.path,
        source=candidate.source,
        backend=candidate.backend,
        precision=start.precision,
        threads=candidate.threads,
        peer=candidate.peer,
        network=candidate.network,
        file_bytes=candidate.file_bytes,
        peak_memory_mb=start.peak_memory_mb,
        cold_start_ms=start.cold_start_ms,
        measurements=measurements,
    )
