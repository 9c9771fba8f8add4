"""`quantize`: an 8-bit file within a given drop of float accuracy, or a refusal; and what it costs and buys here."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from mobilenets.artifact.container import SUFFIXES, check_suffix, read_artifact
from mobilenets.compression.calibration import DEFAULT_IMAGES
from mobilenets.compression.job import Job, prepare_job
from mobilenets.compression.ladder import Climb, climb
from mobilenets.compression.ladders import make_ladder, quantizer_version, require_quantizer
from mobilenets.compression.quantize_text import rung_line
from mobilenets.compression.remarks import remarks
from mobilenets.compression.results import QuantizationReport, Rung
from mobilenets.compression.runtimes import measure_runtimes
from mobilenets.data.datasets import Dataset, check_classes, load_dataset
from mobilenets.data.location import outside
from mobilenets.data.validation import cut_again
from mobilenets.errors import ArtifactError, MobilenetsError, RunError
from mobilenets.evaluation.ledger import record_for
from mobilenets.exporting.subject import load_subject
from mobilenets.exporting.target import check_place
from mobilenets.exporting.watcher import Unwatched, Watcher
from mobilenets.models.network import MobileNet
from mobilenets.models.saved import SavedNetwork

KINDS = ("onnx", "litert")
RUNTIMES = ("onnxruntime", "openvino")


def quantize(
    run: Path | str | SavedNetwork,
    data: str | Path | Dataset,
    out: Path | str,
    *,
    max_drop: float = 1.0,
    to: str | None = None,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    calibration_images: int = DEFAULT_IMAGES,
    max_images: int | None = None,
    finetune: bool = True,
    tensorrt: bool = False,
    runtime: str = "onnxruntime",
    threads: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    data_root: Path | None = None,
    watcher: Watcher | None = None,
) -> QuantizationReport:
    """Quantize a trained network by the first rung of the ladder that loses no more than `max_drop` points of top-1.

    Ranges are found on training images, rungs are judged on one half of the test split; the report also gives the drop
    on the other half, which decided nothing. Where no rung is good enough, no 8-bit file is written but the float one,
    beside `out`, and `report.refused` says so; `report.raise_if_refused()` makes it an exception. An 8-bit file that an
    earlier call left at `out` is then removed, lest it be taken for the new one.

    Rungs of ONNX: plain, bias correction, other ranges, asymmetric activations, no rounding before h-swish, a scale for
    each channel of depthwise inputs, sensitive layers in float, fine-tuning. Of LiteRT: plain, percentile ranges,
    least-error ranges, clipped weights, sensitive layers in float, fine-tuning; no bias correction.

    Args:
        run: a run folder, a loaded network, or with `model` a weight file or `imagenet`.
        data: images as for training, or a data set in memory, of the network's classes; both splits are used.
        out: the file to write.
        max_drop: points of top-1 it may lose against the float file of the same format.
        to: `onnx` or `litert`; None takes the one the suffix of `out` names.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        calibration_images: training images to find ranges on.
        max_images: judge on so many test images at most, evenly over the classes; None for all.
        finetune: whether training the network a little more may be the last rung.
        tensorrt: only ways TensorRT takes: symmetric int8 throughout. For ONNX files.
        runtime: `onnxruntime` or `openvino`: an ONNX file with h-swish is written for the integer kernels of one. Both
            run it, but ONNX Runtime is twice as fast with a pair in front of each h-swish, OpenVINO somewhat slower.
        threads: for judging; None for every usable core. Times are of one thread.
        seed: of every choice.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        watcher: told of progress, and of each rung as it comes.

    Raises:
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, are of other classes, or there are too few.
        QuantizationError: the quantizer can't quantize this network at all.
        ArtifactError: the name of `out` is of another format.
        MissingExtraError: the quantizer is not installed.
        MobilenetsError: `max_drop` is negative or no number, there is no such format, or it has no such option.
    """
    watcher = watcher or Unwatched()
    out = outside(data, Path(out))
    kind = _checked(out, to, max_drop, runtime, tensorrt)
    require_quantizer(kind)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    loaded = load_dataset(data, data_root=data_root, progress=watcher.progress)
    check_classes(loaded, data, subject.classes)
    dataset, _ = cut_again(loaded, subject.provenance)  # neither calibration nor tuning sees the validation images
    record_for(run, "quantize", min(len(dataset.test), max_images or len(dataset.test)), dataset.digest)
    job = prepare_job(subject, dataset, kind, watcher, calibration_images, max_images, seed, skip_bad, threads)
    ladder = make_ladder(
        kind,
        subject,
        dataset,
        job.float_exported,
        job.calibration,
        finetune=finetune and isinstance(subject.model, MobileNet),
        tensorrt=tensorrt,
        runtime=runtime,
        skip_bad=skip_bad,
        seed=seed,
        watcher=watcher,
    )
    told: list[Rung] = []

    def rung_told(rung: Rung) -> None:
        watcher.message(rung_line(rung, max_drop, first=not told))
        told.append(rung)

    climbed = climb(
        ladder,
        job.judge_built,
        job.float_top1,
        max_drop=max_drop,
        on_step=lambda step: watcher.message(f"trying {step.name}: {step.what}"),
        on_rung=rung_told,
    )
    return _deliver(
        job, climbed, Path(out), str(run) if not isinstance(run, SavedNetwork) else "memory", max_drop, notes
    )


def _checked(out: Path, to: str | None, max_drop: float, runtime: str, tensorrt: bool) -> str:
    """Refuse what can't be before anything long begins; returns the format."""
    if not 0 <= max_drop < math.inf:
        raise MobilenetsError(f"max_drop is points of top-1, 0 or more, not {max_drop}; 1.0 allows one point")
    if runtime not in RUNTIMES:
        raise MobilenetsError(f"8-bit ONNX files are written for {' or '.join(RUNTIMES)}, not {runtime}")
    by_suffix = {SUFFIXES[kind]: kind for kind in KINDS}
    kind = to if to is not None else by_suffix.get(out.suffix.lower())
    if kind not in KINDS:
        wanted = f"there is no 8-bit {to}" if to else f"{out}: its suffix names no format"
        raise MobilenetsError(f"{wanted}; give {' or '.join(by_suffix)}, or --to {' or '.join(KINDS)}")
    check_suffix(out, kind)
    if kind != "onnx" and (tensorrt or runtime != RUNTIMES[0]):
        raise MobilenetsError(f"--tensorrt and --runtime are for .onnx files, not {out.name}")
    check_place(out, folder=False)
    return kind


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


def _deliver(
    job: Job, climbed: Climb, out: Path, run: str, max_drop: float, notes: tuple[str, ...]
) -> QuantizationReport:
    chosen = climbed.rungs[-1] if climbed.chosen is not None else None
    known = {"float": job.float_top1}
    with TemporaryDirectory(prefix="mobilenets-", ignore_cleanup_errors=True) as folder:  # Windows keeps files mapped
        if climbed.chosen is None or chosen is None:
            refused, out = out, out.with_name(f"{out.stem}-float32{out.suffix}")
            files = {"float": job.write(out, job.float_exported, "fp32", {})}
            notes = (*_without_earlier(refused), *notes)
        else:
            beside = Path(folder) / f"float{out.suffix}"
            summary = job.calibration.summary
            extra = {
                "quantizer": quantizer_version(job.kind),
                "rung": chosen.name,
                "float_layers": ", ".join(chosen.float_layers) or "none",
                "calibration": f"{summary.images} training images of {summary.classes} classes, seed {summary.seed}",
                "drop": f"{chosen.drop.report:.2f} points of top-1 on {len(job.judge.report)} others",
            }
            files = {
                "float": job.write(beside, job.float_exported, "fp32", {}),
                "int8": job.write(out, climbed.chosen.exported, "int8", extra),
            }
            known["int8"] = chosen.top1
        rows = measure_runtimes(files, job.judge, known, threads=job.threads, progress=job.watcher.progress)
        float_bytes = files["float"].file_bytes
    report = QuantizationReport(
        network=str(job.subject.model.config.name) if isinstance(job.subject.model, MobileNet) else "network",
        run=run,
        data=job.dataset.name,
        kind=job.kind,
        out=str(out),
        max_drop=max_drop,
        seed=job.seed,
        selection_images=len(job.judge.selection),
        report_images=len(job.judge.report),
        calibration=job.calibration.summary,
        float_top1=job.float_top1,
        float_bytes=float_bytes,
        rungs=climbed.rungs,
        chosen=None if chosen is None else chosen.name,
        runtimes=rows,
        remarks=(),
    )
    return remarks(report, job.judge.majority, climbed.chosen, (*notes, *job.dataset.notes, *job.judge.left_out))
