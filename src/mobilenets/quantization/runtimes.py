"""Both files in every runtime that is installed: accuracy and latency, measured alike.

Scored on as many threads as asked for, timed on one: all take turns within this process, where idle threads, which go
on spinning for a while after an answer, would disturb the next one's turn (see `benchmarking.worker`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.benchmarking.latency import measure_latency
from mobilenets.errors import ArtifactError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.results import Latency
from mobilenets.exporters.tensorrt import tensorrt_sentence
from mobilenets.progress import Update
from mobilenets.quantization.images import score
from mobilenets.quantization.results import QuantizationReport, RuntimeRow, Top1, within
from mobilenets.quantization.search import Built
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
    images: EvaluationSet,
    known: Mapping[str, Top1],
    *,
    threads: int | None = None,
    progress: Update,
    refused: Callable[[str], object] = lambda sentence: None,
) -> tuple[RuntimeRow, ...]:
    """Run every file in every runtime here that can.

    Args:
        files: `float` and, where there is one, `int8`.
        images: what they are scored on.
        known: accuracy of each file in its default runtime, which needs not be measured again.
        threads: of each runtime while it is scored; None for every usable core. Times are of one thread.
        progress: told how far it is.
        refused: told of each way in which a file's golden pairs don't hold; it has no row.
    """
    ways = [
        way
        for file, artifact in files.items()
        for way in _ways(file, artifact, images, known, threads, progress, refused)
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
    images: EvaluationSet,
    known: Mapping[str, Top1],
    threads: int | None,
    progress: Update,
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
            what = f"scoring the {file} file in {scored.name} {scored.precision}"
            top1 = score(images, images.predict(scored.predict, what, progress))
        timed = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=TIMING_THREADS)
        ways.append(_Way(file, artifact, timed, top1))
    return ways


def _call(backend: Backend, image: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: backend.predict(image)


# What a user should know of a quantization, in sentences: where int8 is slower, what is faster, what to doubt.


NEARLY = 1.03
"""Times within 3 % of each other are called the same, like those that differ by less than they scatter: it is noise."""


def remarks(
    report: QuantizationReport, majority: float, chosen: Built | None, notes: tuple[str, ...]
) -> QuantizationReport:
    """The report with its remarks.

    Args:
        report: without remarks.
        majority: accuracy in percent of always naming the most frequent class.
        chosen: the file written, None where there was a refusal.
        notes: of the network and the data.
    """
    said = [
        *_doubts(report, majority),
        *_size(report),
        *_speed(report.runtimes),
        *_fastest(report),
        *([] if chosen is None or report.kind != "onnx" else [_tensorrt(chosen)]),
        *notes,
    ]
    return replace(report, remarks=tuple(said))


def _doubts(report: QuantizationReport, majority: float) -> list[str]:
    said = []
    if report.float_top1.whole <= majority:
        said.append(
            f"the float network is right on {report.float_top1.whole:.1f} %, no more than naming always the same class "
            f"({majority:.1f} %): a drop from there means nothing, train it first"
        )
    split = "validation" if report.validated else "test"
    image = 100 / report.selection_images
    if image > report.max_drop / 2:
        said.append(
            f"only {report.selection_images} images decide, one of them is {image:.2f} points: "
            f"a drop of {report.max_drop:g} is hardly measured; give more {split} images"
        )
    drop = report.best.drop.report
    if not report.refused and drop is not None and not within(drop, report.max_drop):
        others = "test images" if report.validated else "images that did not decide"
        again = "; don't choose again by them" if report.validated else ""
        said.append(
            f"on the {report.report_images} {others} it loses {drop:.2f} points, more than {report.max_drop:g}: what "
            f"was promised may not hold elsewhere{again}"
        )
    return said


def _size(report: QuantizationReport) -> list[str]:
    sizes = {row.file: row.file_bytes for row in report.runtimes}
    return [f"the int8 file is {sizes['float'] / sizes['int8']:.1f} times smaller"] if "int8" in sizes else []


def _speed(rows: tuple[RuntimeRow, ...]) -> list[str]:
    """One sentence a runtime: int8 against float32, plainly."""
    floats = {row.backend: row for row in rows if row.file == "float" and row.precision == "fp32"}
    said = []
    for row in rows:
        if row.file != "int8" or row.backend not in floats:
            continue
        where = f"in {row.backend} on one thread of this machine"
        in_float = floats[row.backend].latency
        ratio = row.latency.median_ms / in_float.median_ms
        if _same(row.latency, in_float):
            said.append(f"int8 is as fast as float32 {where}")
        elif ratio > 1:
            said.append(f"int8 is {ratio:.2f} times SLOWER than float32 {where}")
        else:
            said.append(f"int8 is {1 / ratio:.2f} times faster than float32 {where}")
    return said


def _same(first: Latency, second: Latency) -> bool:
    """Whether two times can't be told apart: less than 3 % between them, or less than either scatters."""
    low, high = sorted((first.median_ms, second.median_ms))
    return high <= NEARLY * low or high - low < max(first.iqr_ms, second.iqr_ms)


def _fastest(report: QuantizationReport) -> list[str]:
    able = [row for row in report.runtimes if within(max(row.drop.selection, row.drop.whole), report.max_drop)]
    if not able:
        return []
    row = min(able, key=lambda row: row.latency.median_ms)
    same = [_way(other) for other in able if other is not row and _same(other.latency, row.latency)]
    return [
        f"fastest here within {report.max_drop:g} points: {_way(row)}, {row.latency.median_ms:.2f} ms on one thread"
        f"{'; as fast: ' * bool(same)}{', '.join(same)}"
    ]


def _way(row: RuntimeRow) -> str:
    return f"the {row.file} file in {row.backend} in {row.precision}"


def _tensorrt(chosen: Built) -> str:
    if tensorrt_sentence(chosen.exported.payload).startswith("keeps"):
        return "the file keeps TensorRT's rules for explicit quantization (symmetric int8); it was not run there"
    return "TensorRT won't take this file, which is not symmetric int8 throughout: --tensorrt makes one it can"
