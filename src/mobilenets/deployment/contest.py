"""The contest of all files made: every way to run them scored and timed, one chosen, and held against its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking.results import BenchmarkReport
from mobilenets.deployment.choosing import choose
from mobilenets.deployment.measuring import BATCH, advantages, final, score, survey, ways_of, with_scores
from mobilenets.deployment.results import Advantage, Decision, FileOutcome, Way
from mobilenets.errors import BackendError, ExportError
from mobilenets.exporting.proof import Questions
from mobilenets.exporting.watcher import Watcher


@dataclass(frozen=True)
class Rules:
    """How the contest is held.

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
class Contest:
    """How it ended; fields as `DeploymentReport` has them, and the way that is kept."""

    ways: tuple[Way, ...]
    decision: Decision
    kept: Way
    advantages: tuple[Advantage, ...]
    survey: BenchmarkReport
    final: BenchmarkReport | None
    notes: tuple[str, ...]


def hold_contest(
    files: Sequence[FileOutcome], questions: Questions, reference: float, rules: Rules, watcher: Watcher
) -> Contest:
    """Score and time every way to run the files, and choose.

    Args:
        files: what was made, and what was not.
        questions: the evaluation images.
        reference: the network's own top-1 on them in PyTorch, in percent.
        rules: how.
        watcher: told of progress.

    Raises:
        ExportError: not one file was made.
        BackendError: none of them could be run.
    """
    artifacts = [read_artifact(Path(file.path)) for file in files if file.status == "made"]
    if not artifacts:
        raise ExportError(f"not one file could be made: {'; '.join(f'{file.name}: {file.reason}' for file in files)}")
    scores, lost = score(artifacts, questions, max(rules.threads, default=None), watcher)
    watcher.message("measuring every way to run them, in turn")
    surveyed = survey(
        [artifact.path for artifact in artifacts if any(path == str(artifact.path) for path, *_ in scores)],
        against=rules.against,
        threads=rules.threads,
        seconds=rules.seconds,
        progress=watcher.progress,
    )
    ways = ways_of(surveyed, scores, artifacts, reference)
    if not ways:
        reasons = (*lost, *(f"{one.label}: {one.reason}" for one in surveyed.failures))
        raise BackendError(f"no file could be both scored and timed here: {'; '.join(reasons)}")
    decision = choose(ways, rules.max_drop, lambda first, second: _distinct(surveyed, first, second))
    kept = next(way for way in ways if way.label == decision.label)
    watcher.message(f"{decision.label}: {decision.reason}")
    floats = [artifact for artifact in artifacts if artifact.description.precision != "int8"]
    if rules.against:
        watcher.message("measuring it against its peers")
    finals = final(kept, floats, surveyed, against=rules.against, seconds=rules.seconds, progress=watcher.progress)
    return Contest(
        ways=ways,
        decision=decision,
        kept=kept,
        advantages=() if finals is None else advantages(finals, kept, floats),
        survey=with_scores(surveyed, ways, reference, questions.what),
        final=finals,
        notes=(
            *lost,
            *_said(surveyed, "measuring all ways"),
            *(() if finals is None else _said(finals, "measuring against the peers")),
        ),
    )


def _distinct(report: BenchmarkReport, first: str, second: str) -> bool:
    ratio = report.ratio(first, second, BATCH)
    return ratio is not None and ratio.distinct


def _said(report: BenchmarkReport, where: str) -> tuple[str, ...]:
    """What a reader must know of a measurement before believing it."""
    return (
        *(f"{where}: not measured: {one.label}: {one.reason}" for one in report.failures),
        *(f"{where}: {sentence}" for sentence in report.warnings),
    )
