"""Scoring and timing every way to run the files, then the kept one against its peers.

Accuracy is asked of each backend in each precision, not assumed: one and the same file answers differently in bfloat16.
Times come from two alternations. The *survey* has all ways at once and decides. Its winner may have been lucky, so the
*final* measures it again beside PyTorch eager and the float file opened with the defaults of ONNX Runtime and OpenVINO,
and only those ratios are reported. The test images are asked when the file is chosen: of every way in the table, and of
PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.benchmarking.benchmark import benchmark
from mobilenets.benchmarking.candidates import DEFAULTS, PEERS, RUNTIME_WORDS
from mobilenets.benchmarking.results import Accuracy, BenchmarkReport, BenchmarkRow, Ratio
from mobilenets.deployment.results import Advantage, Decision, DeploymentTest, FileOutcome, Way
from mobilenets.deployment.select import choose
from mobilenets.errors import BackendError, ExportError, MobilenetsError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.predictions import Predict
from mobilenets.exporters.confidence import evaluate_confidence
from mobilenets.machine import usable_cores
from mobilenets.progress import Progress, Update
from mobilenets.quantization.results import points, within
from mobilenets.runtime.backend import choices, open_backend

BATCH = 1
STARTS = 1
FINAL_SHARE = 2.0
"""Measured seconds of the final over those of the survey: fewer rows, and theirs are the ratios that are reported."""

Key = tuple[str, str, str]
"""Path, backend, precision: what decides accuracy; threads don't."""


def score(
    artifacts: Sequence[Artifact], images: EvaluationSet, threads: int | None, progress: Progress
) -> tuple[dict[Key, float], tuple[str, ...]]:
    """Top-1 in percent of each file in each backend and precision, and a sentence on each that could not answer."""
    found: dict[Key, float] = {}
    lost = []
    for artifact in artifacts:
        for choice in choices(artifact):
            what = f"scoring {artifact.path.name} in {choice.backend} {choice.precision}"
            try:
                backend = open_backend(
                    artifact, backend=choice.backend, precision=choice.precision, threads=threads or usable_cores()
                )
                logits = images.predict(backend.predict, what, progress.update)
            except MobilenetsError as error:
                lost.append(f"{what} failed: {error}")
                progress.message(lost[-1])
                continue
            found[str(artifact.path), choice.backend, choice.precision] = images.top1(logits)
    return found, tuple(lost)


def survey(
    paths: Sequence[Path],
    *,
    against: Sequence[str],
    threads: Sequence[int],
    seconds: float,
    progress: Update,
) -> BenchmarkReport:
    """Measure every way at batch 1 in one alternation, PyTorch eager among them where it is wanted.

    Raises:
        MobilenetsError: what `benchmark` raises.
    """
    return benchmark(
        paths,
        against=[name for name in against if name == "pytorch"],
        threads=threads,
        batch_sizes=(BATCH,),
        seconds=seconds,
        starts=STARTS,
        progress=progress,
    )


def ways_of(
    report: BenchmarkReport, scores: Mapping[Key, float], artifacts: Sequence[Artifact], reference: float
) -> tuple[Way, ...]:
    """Join times and accuracies, the fastest first; a way without an accuracy can't be chosen and is left out.

    Args:
        report: the survey.
        scores: what `score` found.
        artifacts: the files measured.
        reference: the network's own top-1.
    """
    described = {str(artifact.path): artifact.description for artifact in artifacts}
    ways = []
    for row in report.rows:
        measured, top1 = row.at(BATCH), scores.get((row.path, row.backend, row.precision))
        if row.peer or measured is None or top1 is None:
            continue
        ways.append(
            Way(
                label=row.label,
                path=row.path,
                kind=described[row.path].kind,
                stored=described[row.path].precision,
                backend=row.backend,
                precision=row.precision,
                threads=row.threads,
                file_bytes=row.file_bytes or 0,
                top1=top1,
                drop=reference - top1,
                latency=measured.latency,
                peak_memory_mb=row.peak_memory_mb,
                cold_start_ms=row.cold_start_ms,
            )
        )
    return tuple(sorted(ways, key=lambda way: way.latency.median_ms))


def with_scores(report: BenchmarkReport, ways: Sequence[Way], reference: float, basis: str) -> BenchmarkReport:
    """The survey with accuracies, for its picture; PyTorch eager has the network's own."""
    known = {way.label: Accuracy(way.top1, basis) for way in ways}
    known |= {row.label: Accuracy(reference, basis) for row in report.rows if row.backend == "pytorch"}
    return report.with_accuracies(known)


def final(
    kept: Way,
    floats: Sequence[Artifact],
    surveyed: BenchmarkReport,
    *,
    against: Sequence[str],
    seconds: float,
    progress: Update,
) -> BenchmarkReport | None:
    """Measure the kept way beside its peers; None where there are none.

    Args:
        kept: the way chosen.
        floats: the float files, of which one is opened with the runtimes' defaults.
        surveyed: tells with how many threads PyTorch is fastest.
        against: `pytorch`, `onnxruntime`, `openvino`.
        seconds: of the survey.
        progress: told how far it is.

    Raises:
        MobilenetsError: what `benchmark` raises.
    """
    with_defaults = _defaults_file(floats)
    peers = [
        name for name in against if name == "pytorch" or (with_defaults is not None and _reads(name, with_defaults))
    ]
    if not peers:
        return None
    eager = [row for row in surveyed.rows if row.backend == "pytorch"]
    counts = {kept.threads, usable_cores(), *(row.threads for row in _fastest(eager))}
    paths = [Path(kept.path), *([with_defaults.path] if with_defaults is not None else [])]
    return benchmark(
        paths,
        against=peers,
        backends=(kept.backend,),
        precisions=(kept.precision,),
        threads=sorted(counts),
        batch_sizes=(BATCH,),
        seconds=FINAL_SHARE * seconds,
        starts=STARTS,
        progress=progress,
    )


def advantages(report: BenchmarkReport, kept: Way, floats: Sequence[Artifact]) -> tuple[Advantage, ...]:
    """The kept way against the fastest row of each peer; of the runtimes' defaults only the float file's row counts."""
    with_defaults = _defaults_file(floats)
    peers = {"", *([str(with_defaults.model_path)] if with_defaults is not None else [])}  # PyTorch has no file
    own = next(
        (
            row
            for row in report.rows
            if not row.peer and (row.path, row.threads, row.precision) == (kept.path, kept.threads, kept.precision)
        ),
        None,
    )
    if own is None:
        return ()
    found = []
    for backend in PEERS:
        rows = [row for row in report.rows if row.peer and row.backend == backend and row.path in peers]
        for peer in _fastest(rows):
            ratio: Ratio | None = report.ratio(peer.label, own.label, BATCH)
            if ratio is not None:
                words = RUNTIME_WORDS[backend] + (f" {DEFAULTS}" if peer.source == "file" else "")
                found.append(Advantage(words, ratio))
    return tuple(found)


def _fastest(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    timed = [(one.latency.median_ms, row) for row in rows if (one := row.at(BATCH)) is not None]
    return [min(timed, key=lambda pair: pair[0])[1]] if timed else []


def _defaults_file(floats: Sequence[Artifact]) -> Artifact | None:
    """The float file someone would open with a runtime's defaults: ONNX, which both runtimes read, else OpenVINO's."""
    for kind in ("onnx", "openvino"):
        for artifact in floats:
            if artifact.description.kind == kind:
                return artifact
    return None


def _reads(backend: str, artifact: Artifact) -> bool:
    if backend == "openvino":
        return find_spec("openvino") is not None
    return artifact.description.kind == "onnx"


@dataclass(frozen=True)
class MeasureConfig:
    """How the ways are measured.

    Attributes:
        max_drop: points of top-1 allowed.
        against: peers the winner is compared with.
        threads: numbers of threads to try; empty for 1 and every usable core.
        seconds: measured time of each way.
    """

    max_drop: float
    against: Sequence[str]
    threads: Sequence[int]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What was found; fields as `DeploymentReport` has them, and the way that is kept."""

    ways: tuple[Way, ...]
    decision: Decision
    kept: Way
    advantages: tuple[Advantage, ...]
    survey: BenchmarkReport
    final: BenchmarkReport | None
    notes: tuple[str, ...]


def measure_and_select(
    files: Sequence[FileOutcome], images: EvaluationSet, reference: float, config: MeasureConfig, progress: Progress
) -> Measured:
    """Score and time every way to run the files, and choose.

    Args:
        files: what was made, and what was not.
        images: the evaluation images.
        reference: the network's own top-1 on them in PyTorch, in percent.
        config: how.
        progress: told of progress.

    Raises:
        ExportError: not one file was made.
        BackendError: none of them could be run.
    """
    artifacts = [read_artifact(Path(file.path)) for file in files if file.status == "made"]
    if not artifacts:
        raise ExportError(f"not one file could be made: {'; '.join(f'{file.name}: {file.reason}' for file in files)}")
    scores, lost = score(artifacts, images, max(config.threads, default=None), progress)
    progress.message("measuring every way to run them, in turn")
    surveyed = survey(
        [artifact.path for artifact in artifacts if any(path == str(artifact.path) for path, *_ in scores)],
        against=config.against,
        threads=config.threads,
        seconds=config.seconds,
        progress=progress.update,
    )
    ways = ways_of(surveyed, scores, artifacts, reference)
    if not ways:
        reasons = (*lost, *(f"{one.label}: {one.reason}" for one in surveyed.failures))
        raise BackendError(f"no file could be both scored and timed here: {'; '.join(reasons)}")
    decision = choose(ways, config.max_drop, lambda first, second: _distinct(surveyed, first, second))
    kept = next(way for way in ways if way.label == decision.label)
    progress.message(f"{decision.label}: {decision.reason}")
    floats = [artifact for artifact in artifacts if artifact.description.precision != "int8"]
    if config.against:
        progress.message("measuring it against its peers")
    finals = final(kept, floats, surveyed, against=config.against, seconds=config.seconds, progress=progress.update)
    return Measured(
        ways=ways,
        decision=decision,
        kept=kept,
        advantages=() if finals is None else advantages(finals, kept, floats),
        survey=with_scores(surveyed, ways, reference, images.what),
        final=finals,
        notes=(
            *lost,
            *_warnings(surveyed, "measuring all ways"),
            *(() if finals is None else _warnings(finals, "measuring against the peers")),
        ),
    )


def _distinct(report: BenchmarkReport, first: str, second: str) -> bool:
    ratio = report.ratio(first, second, BATCH)
    return ratio is not None and ratio.distinct


def _warnings(report: BenchmarkReport, where: str) -> tuple[str, ...]:
    """What a reader must know of a measurement before believing it."""
    return (
        *(f"{where}: not measured: {one.label}: {one.reason}" for one in report.failures),
        *(f"{where}: {sentence}" for sentence in report.warnings),
    )


@dataclass(frozen=True)
class TestScores:
    """What the test images say.

    Attributes:
        test: the images, and PyTorch's accuracy on them.
        ways: those given, each with its accuracy on them.
        confidence: of the kept file, with what it is worth on them; None where it has none.
        notes: what the user should know, a sentence each.
    """

    __test__ = False  # pytest takes it for tests otherwise

    test: DeploymentTest
    ways: tuple[Way, ...]
    confidence: Confidence | None
    notes: tuple[str, ...]


def score_test_images(
    ways: Sequence[Way],
    kept: Way,
    images: EvaluationSet,
    network: Predict,
    threads: int | None,
    max_drop: float,
    progress: Progress,
) -> TestScores:
    """Ask the test images of every way. Nothing is chosen by the answers.

    Args:
        ways: those of the table.
        kept: the one chosen.
        images: the test images.
        network: the network in PyTorch.
        threads: for the runtimes; None for every usable core.
        max_drop: points allowed; a kept way that loses more here is warned of.
        progress: told of progress.
    """
    reference = images.top1(images.predict(network, "asking the network in PyTorch", progress.update))
    artifacts = [read_artifact(Path(path)) for path in dict.fromkeys(way.path for way in ways)]
    scores, lost = score(artifacts, images, threads, progress)
    tested = tuple(replace(way, test_top1=scores.get((way.path, way.backend, way.precision))) for way in ways)
    own = next(way for way in tested if way.label == kept.label)
    warnings = []
    if own.test_top1 is not None and not within(drop := reference - own.test_top1, max_drop):
        warnings.append(
            f"on the {images.what} {own.label} loses {drop:.2f} points, more than the {points(max_drop)} allowed: "
            "the validation images showed a smaller drop; don't choose again by the test images"
        )
    return TestScores(
        test=DeploymentTest(images.what, reference),
        ways=tested,
        confidence=_confidence(kept, images, progress),
        notes=(*warnings, *lost, *images.notes),
    )


def _confidence(kept: Way, images: EvaluationSet, progress: Progress) -> Confidence | None:
    artifact = read_artifact(Path(kept.path))
    found = artifact.description.confidence
    if found is None:
        return None
    backend = open_backend(artifact, backend=kept.backend, precision=kept.precision, threads=kept.threads)
    logits = images.predict(backend.predict, "asking the kept file again for its probabilities", progress.update)
    return evaluate_confidence(found, logits, images.truth, images.what).confidence
