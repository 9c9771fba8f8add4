"""Both files in every runtime that is installed: accuracy and latency, measured alike.

Scored on as many threads as asked for, timed on one: all take turns within this process, where idle threads, which go
on spinning for a while after an answer, would disturb the next one's turn (see `benchmarking.worker`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.benchmarking.latency import measure_latency
from mobilenets.compression.judging import Judge
from mobilenets.compression.results import RuntimeRow, Top1
from mobilenets.errors import ArtifactError
from mobilenets.runtime.backend import Backend, choices, open_backend
from mobilenets.runtime.classifier import check_golden

ROUNDS = 50
SECONDS = 3.0
TIMING_THREADS = 1


@dataclass(frozen=True)
class _Way:
    file: str
    artifact: Artifact
    backend: Backend
    top1: Top1


def measure_runtimes(
    files: Mapping[str, Artifact],
    judge: Judge,
    known: Mapping[str, Top1],
    *,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    refused: Callable[[str], object] = lambda sentence: None,
) -> tuple[RuntimeRow, ...]:
    """Run every file in every runtime here that can.

    Args:
        files: `float` and, where there is one, `int8`.
        judge: scores them.
        known: accuracy of each file in its default runtime, which needs not be measured again.
        threads: of each runtime while it is scored; None for every usable core. Times are of one thread.
        progress: told how far it is.
        refused: told of each way in which a file's golden pairs don't hold; it has no row.
    """
    ways = [
        way
        for file, artifact in files.items()
        for way in _ways(file, artifact, judge, known, threads, progress, refused)
    ]
    image = np.ascontiguousarray(next(iter(files.values())).description.golden.images[:1])
    calls = {str(number): _call(way.backend, image) for number, way in enumerate(ways)}
    latencies = measure_latency(calls, rounds=ROUNDS, seconds=SECONDS)
    reference = known["float"]
    return tuple(
        RuntimeRow(
            file=way.file,
            backend=way.backend.name,
            precision=way.backend.precision,
            file_bytes=way.artifact.file_bytes,
            top1=way.top1,
            drop=way.top1.drop_from(reference),
            latency=latencies[str(number)],
        )
        for number, way in enumerate(ways)
    )


def _ways(
    file: str,
    artifact: Artifact,
    judge: Judge,
    known: Mapping[str, Top1],
    threads: int | None,
    progress: Callable[[str, int, int], None] | None,
    refused: Callable[[str], object],
) -> list[_Way]:
    ways = []
    for number, choice in enumerate(choices(artifact)):
        top1 = known[file]
        if number > 0:
            scored = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=threads)
            try:
                check_golden(artifact, scored)
            except ArtifactError as error:  # nobody could run it so: every verb that loads the file asks the same
                refused(f"not listed: {error}")
                continue
            top1 = judge.top1(judge.logits(scored.predict, _named(progress, scored, file)))
        timed = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=TIMING_THREADS)
        ways.append(_Way(file, artifact, timed, top1))
    return ways


def _named(
    progress: Callable[[str, int, int], None] | None, backend: Backend, file: str
) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    what = f"scoring the {file} file in {backend.name} {backend.precision}"
    return lambda done, total: progress(what, done, total)


def _call(backend: Backend, image: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: backend.predict(image)
