"""Climbing the ladder for a network and images that are loaded, and handing over what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from mobilenets.artifact.container import read_artifact
from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import also_trained_on
from mobilenets.errors import ArtifactError, RunError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.selection import chance_level
from mobilenets.exporters.describe import Subject
from mobilenets.files import temporary_folder
from mobilenets.models.network import MobileNet
from mobilenets.progress import Progress
from mobilenets.quantization.config import Order, make_ladder, quantizer_version
from mobilenets.quantization.context import Job, prepare_job
from mobilenets.quantization.results import QuantizationReport, Rung
from mobilenets.quantization.runtimes import measure_runtimes, remarks
from mobilenets.quantization.search import Climb, climb
from mobilenets.report.quantize import rung_line

FINE_TUNED: Final = "fine-tun"
"""In the names of rungs that train the network on: the file has then seen these images, too."""


def quantize_loaded(
    subject: Subject,
    dataset: Dataset,
    order: Order,
    progress: Progress,
    *,
    run: str,
    notes: tuple[str, ...] = (),
    open_test: Callable[[], EvaluationSet] | None = None,
) -> QuantizationReport:
    """Quantize a network by the first rung that loses no more than allowed on the images that decide.

    Args:
        subject: the network.
        dataset: its images, as `evaluation.images.load_evaluation_data` gives them: where these have validation images,
            they select, and are neither calibrated with nor tuned on.
        order: what is asked for, checked.
        progress: told of progress, and of each rung as it comes.
        run: where the network came from, in words.
        notes: what its user should know of it.
        open_test: hands out the test images when a rung is chosen; None leaves them unread, or lets them select where
            there are no validation images.

    Raises:
        DataError: there are too few images.
        QuantizationError: the quantizer can't quantize this network at all.
        RunError: a file can't be written, or the reading of the test images can't be recorded.
    """
    job = prepare_job(subject, dataset, order, progress)
    ladder = make_ladder(
        order.kind,
        subject,
        dataset,
        job.float_exported,
        job.calibration,
        finetune=order.finetune and isinstance(subject.model, MobileNet),
        tensorrt=order.tensorrt,
        runtime=order.runtime,
        skip_bad=order.skip_bad,
        seed=order.seed,
        progress=progress,
    )
    told: list[Rung] = []

    def rung_told(rung: Rung) -> None:
        progress.message(rung_line(rung, order.max_drop, first=not told))
        told.append(rung)

    climbed = climb(
        ladder,
        job.score_built,
        job.float_top1,
        max_drop=order.max_drop,
        on_step=lambda step: progress.message(f"trying {step.name}: {step.what}"),
        on_rung=rung_told,
    )
    if open_test is not None:
        progress.message("everything is chosen: asking the test images")
        climbed = job.ask_test(open_test(), climbed)
    return _deliver(job, climbed, order, run, notes)


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


def _deliver(job: Job, climbed: Climb, order: Order, run: str, notes: tuple[str, ...]) -> QuantizationReport:
    out = order.out
    chosen = climbed.rungs[-1] if climbed.chosen is not None else None
    known = {"float": job.float_top1}
    with temporary_folder() as folder:
        if climbed.chosen is None or chosen is None:
            refused, out = out, out.with_name(f"{out.stem}-float32{out.suffix}")
            files = {"float": job.write(out, job.float_exported, "fp32", {})}
            notes = (*_without_earlier(refused), *notes)
        else:
            beside = folder / f"float{out.suffix}"
            summary = job.calibration.summary
            extra = {
                "quantizer": quantizer_version(job.kind),
                "rung": chosen.name,
                "float_layers": ", ".join(chosen.float_layers) or "none",
                "calibration": f"{summary.images} training images of {summary.classes} classes, seed {summary.seed}",
            }
            if chosen.drop.report is not None:
                others = "others" if job.tested is None else "test images"
                extra["drop"] = f"{chosen.drop.report:.2f} points of top-1 on {job.report_images} {others}"
            if FINE_TUNED in chosen.name and job.subject.images is not None:
                seen = also_trained_on(job.subject.images, job.dataset.train)
                job.subject = replace(job.subject, images=seen)
            files = {
                "float": job.write(beside, job.float_exported, "fp32", {}),
                "int8": job.write(out, climbed.chosen.exported, "int8", extra),
            }
            known["int8"] = chosen.top1
        unlisted: list[str] = []
        rows = measure_runtimes(
            files, job.images, known, threads=job.threads, progress=job.progress.update, refused=unlisted.append
        )
        notes = (*notes, *unlisted)
        float_bytes = files["float"].file_bytes
    report = QuantizationReport(
        network=str(job.subject.model.config.name) if isinstance(job.subject.model, MobileNet) else "network",
        run=run,
        data=job.dataset.name,
        kind=job.kind,
        out=str(out),
        max_drop=order.max_drop,
        seed=job.seed,
        selection_images=len(job.images.selection),
        report_images=job.report_images,
        calibration=job.calibration.summary,
        float_top1=job.float_top1,
        float_bytes=float_bytes,
        rungs=climbed.rungs,
        chosen=None if chosen is None else chosen.name,
        runtimes=rows,
        remarks=(),
        validated=job.images.validated,
    )
    told = (
        *notes,
        *job.images.notes,
        *(() if job.tested is None else job.tested.notes),
    )
    return remarks(report, chance_level(job.images.truth), climbed.chosen, tuple(dict.fromkeys(told)))
