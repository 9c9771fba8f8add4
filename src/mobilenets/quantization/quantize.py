"""Quantizing a network whose images are loaded: the ladder search, then the files and what they cost and buy here.

Both files are run in every runtime that is installed. They are scored on as many threads as asked for and timed on one:
all take turns within this process, where idle threads, which go on spinning for a while after an answer, would disturb
the next one's turn (see `benchmarking.worker`). A deployment, which times all its files in another way, has only the
8-bit file made, from the float export it has already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.benchmarking.latency import round_ratios, summarize, time_rounds
from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import also_trained_on
from mobilenets.errors import ArtifactError, RunError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.selection import as_fast_as, chance_level
from mobilenets.exporters.onnx import tensorrt_sentence
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import Subject
from mobilenets.files import temporary_folder
from mobilenets.models.network import MobileNet
from mobilenets.progress import Progress, Update
from mobilenets.quantization.config import QuantizeConfig, make_ladder, quantizer_version
from mobilenets.quantization.context import QuantizationContext, prepare_context
from mobilenets.quantization.results import QuantizationReport, Rung, RuntimeRow, Top1
from mobilenets.quantization.search import SearchResult, score, search_ladder
from mobilenets.runtime.backend import Backend, choices, open_backend
from mobilenets.runtime.classifier import check_golden

FINE_TUNED: Final = "fine-tun"
"""In the names of rungs that train the network on: the file has then seen these images, too."""
ROUNDS = 50
SECONDS = 3.0
TIMING_THREADS = 1

OnRung = Callable[[Rung], None]
"""Told of each rung as it is scored."""


def quantize_loaded(
    subject: Subject,
    dataset: Dataset,
    config: QuantizeConfig,
    progress: Progress,
    *,
    run: str,
    notes: tuple[str, ...] = (),
    open_test: Callable[[], EvaluationSet] | None = None,
    on_rung: OnRung | None = None,
) -> QuantizationReport:
    """Quantize a network by the first rung that loses no more than allowed on the images that select, and time it.

    Args:
        subject: the network.
        dataset: its images, as `evaluation.images.load_evaluation_data` gives them: where these have validation images,
            they select, and are neither calibrated with nor tuned on.
        config: what is asked for, checked.
        progress: told of progress.
        run: where the network came from, in words.
        notes: what its user should know of it.
        open_test: hands out the test images when a rung is chosen; None leaves them unread, or lets them select where
            there are no validation images.
        on_rung: told of each rung as it is scored.

    Raises:
        DataError: there are too few images.
        QuantizationError: the quantizer can't quantize this network at all.
        RunError: a file can't be written, or the reading of the test images can't be recorded.
    """
    context = prepare_context(subject, dataset, config, progress)
    found = _search(context, config, progress, on_rung)
    if open_test is not None:
        progress.message("everything is chosen: asking the test images")
        found = context.score_test(open_test(), found)
    out, known = config.out, {"float": context.float_top1}
    with temporary_folder() as folder:
        if found.chosen is None:
            refused, out = out, out.with_name(f"{out.stem}-float32{out.suffix}")
            files = {"float": context.write(out, context.float_exported, "fp32", {})}
            notes = (*_without_earlier(refused), *notes)
        else:
            beside = folder / f"float{out.suffix}"
            files = {
                "float": context.write(beside, context.float_exported, "fp32", {}),
                "int8": _write_chosen(context, found, out),
            }
            known["int8"] = found.rungs[-1].top1
        unlisted: list[str] = []
        rows = measure_runtimes(
            files, context.images, known, threads=config.threads, progress=progress.update, refused=unlisted.append
        )
        float_bytes = files["float"].file_bytes  # of a file that goes with the folder
    report = _report(context, found, config, run, (*notes, *unlisted))
    return replace(report, out=str(out), float_bytes=float_bytes, runtimes=rows)


def quantize_candidate(
    subject: Subject,
    dataset: Dataset,
    config: QuantizeConfig,
    progress: Progress,
    *,
    run: str,
    float_exported: Exported | None = None,
    float_bytes: int = 0,
    on_rung: OnRung | None = None,
) -> QuantizationReport:
    """Write the 8-bit file alone, for a deployment: nothing is timed, and a refusal leaves no file.

    Args:
        subject: as for `quantize_loaded`.
        dataset: likewise; its test images are not read where there are validation images.
        config: likewise.
        progress: likewise.
        run: likewise.
        float_exported: the network in the format, where it is exported already; None exports it.
        float_bytes: size of its float file, for the report; 0 where none was written.
        on_rung: told of each rung as it is scored.

    Raises:
        DataError: there are too few images.
        QuantizationError: the quantizer can't quantize this network at all.
        RunError: the file can't be written.
    """
    context = prepare_context(subject, dataset, config, progress, float_exported)
    found = _search(context, config, progress, on_rung)
    if found.chosen is not None:
        _write_chosen(context, found, config.out)
    float_bytes = float_bytes or sum(map(len, context.float_exported.payload.values()))
    return replace(_report(context, found, config, run, ()), float_bytes=float_bytes)


def _search(
    context: QuantizationContext, config: QuantizeConfig, progress: Progress, on_rung: OnRung | None
) -> SearchResult:
    ladder = make_ladder(
        config.kind,
        context.subject,
        context.dataset,
        context.float_exported,
        context.calibration,
        finetune=config.finetune and isinstance(context.subject.model, MobileNet),
        tensorrt=config.tensorrt,
        runtime=config.runtime,
        skip_bad=config.skip_bad,
        seed=config.seed,
        progress=progress,
    )
    return search_ladder(
        ladder,
        context.score_file,
        context.float_top1,
        max_drop=config.max_drop,
        on_step=lambda step: progress.message(f"trying {step.name}: {step.what}"),
        on_rung=on_rung,
    )


def _write_chosen(context: QuantizationContext, found: SearchResult, out: Path) -> Artifact:
    """Write the 8-bit file with how it was found."""
    assert found.chosen is not None
    rung, summary = found.rungs[-1], context.calibration.summary
    extra = {
        "quantizer": quantizer_version(context.kind),
        "rung": rung.name,
        "float_layers": ", ".join(rung.float_layers) or "none",
        "calibration": f"{summary.images} training images of {summary.classes} classes, seed {summary.seed}",
    }
    if rung.drop.report is not None:
        others = "others" if context.tested is None else "test images"
        extra["drop"] = f"{rung.drop.report:.2f} points of top-1 on {context.report_images} {others}"
    if FINE_TUNED in rung.name and context.subject.images is not None:
        seen = also_trained_on(context.subject.images, context.dataset.train)
        context.subject = replace(context.subject, images=seen)
    return context.write(out, found.chosen.exported, "int8", extra)


def _without_earlier(out: Path) -> tuple[str, ...]:
    """Remove the file an earlier, looser call left: a script would take it for this call's. Others' files stay."""
    try:
        read_artifact(out)
    except ArtifactError:
        return ()
    try:
        out.unlink()
    except OSError as error:
        raise RunError(f"{out}, of an earlier call, can't be removed: {error.strerror or error}") from error
    return (f"removed {out}, which an earlier call had written: it is not the file asked for now",)


def _report(
    context: QuantizationContext, found: SearchResult, config: QuantizeConfig, run: str, notes: tuple[str, ...]
) -> QuantizationReport:
    """The report without what is measured of written files."""
    model, chosen, images = context.subject.model, found.chosen, context.images
    keeps_rules = None
    if chosen is not None and context.kind == "onnx":
        keeps_rules = tensorrt_sentence(chosen.exported.payload).startswith("keeps")
    all_notes = (*notes, *images.notes, *(() if context.tested is None else context.tested.notes))
    return QuantizationReport(
        network=str(model.config.name) if isinstance(model, MobileNet) else "network",
        run=run,
        data=context.dataset.name,
        kind=context.kind,
        out=str(config.out),
        max_drop=config.max_drop,
        seed=config.seed,
        selection_images=len(images.selection),
        report_images=context.report_images,
        calibration=context.calibration.summary,
        float_top1=context.float_top1,
        float_bytes=0,
        rungs=found.rungs,
        chosen=None if chosen is None else found.rungs[-1].name,
        runtimes=(),
        notes=tuple(dict.fromkeys(all_notes)),
        validated=images.validated,
        chance_level=chance_level(images.truth),
        keeps_tensorrt_rules=keeps_rules,
    )


@dataclass(frozen=True)
class _TimedFile:
    file: str
    artifact: Artifact
    backend: Backend
    top1: Top1

    @property
    def label(self) -> str:
        return f"{self.file} {self.backend.name} {self.backend.precision}"


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
    times = time_rounds({way.label: _call(way.backend, image) for way in ways}, rounds=ROUNDS, seconds=SECONDS)
    reference = known["float"]
    rows = [
        RuntimeRow(
            file=way.file,
            backend=way.backend.name,
            precision=way.backend.precision,
            file_bytes=way.artifact.file_bytes,
            top1=way.top1,
            drop=way.top1.drop_from(reference),
            latency=summarize(times[way.label]),
        )
        for way in ways
    ]
    return _with_ties(rows, times)


def _with_ties(rows: Sequence[RuntimeRow], times: Mapping[str, Sequence[int]]) -> tuple[RuntimeRow, ...]:
    """The rows, each with the labels of those as fast."""
    medians = {row.label: row.latency.median_ms for row in rows}
    ties: dict[str, list[str]] = {label: [] for label in medians}
    for pair in round_ratios(times):
        faster, slower = sorted((pair.first, pair.second), key=lambda label: medians[label])
        if as_fast_as(medians[slower], medians[faster], distinct=pair.distinct):
            ties[slower].append(faster)
            ties[faster].append(slower)
    return tuple(replace(row, as_fast=tuple(ties[row.label])) for row in rows)


def _ways(
    file: str,
    artifact: Artifact,
    images: EvaluationSet,
    known: Mapping[str, Top1],
    threads: int | None,
    progress: Update,
    refused: Callable[[str], object],
) -> list[_TimedFile]:
    ways = []
    for number, choice in enumerate(choices(artifact)):
        top1 = known[file]
        if number > 0:
            scored = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=threads)
            try:
                check_golden(artifact, scored)
            except ArtifactError as error:  # every verb that loads the file would refuse it
                refused(f"not listed: {error}")
                continue
            what = f"scoring the {file} file in {scored.name} {scored.precision}"
            top1 = score(images, images.predict(scored.predict, what, progress))
        timed = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=TIMING_THREADS)
        ways.append(_TimedFile(file, artifact, timed, top1))
    return ways


def _call(backend: Backend, image: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: backend.predict(image)
