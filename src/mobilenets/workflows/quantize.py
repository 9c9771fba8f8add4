"""`quantize`: an 8-bit file within a given drop of float accuracy, or a refusal; and what it costs and buys here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mobilenets.data.datasets import Dataset
from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.evaluation_set import EvaluationSet, SealedTestSet, ledger_folder, record_for
from mobilenets.evaluation.images import evaluation_set, load_evaluation_data
from mobilenets.exporters.subject import Subject, load_subject, recommended
from mobilenets.files import outside
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import check_seed
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent
from mobilenets.quantization.config import QuantizeConfig, kind_of
from mobilenets.quantization.quantize import OnRung, quantize_loaded
from mobilenets.quantization.results import QuantizationReport, Rung
from mobilenets.quantization.search import CALIBRATION_IMAGES
from mobilenets.report.quantize import rung_line, with_notes


def quantize(
    run: Path | str | SavedNetwork,
    data: str | Path | Dataset,
    out: Path | str,
    *,
    to: str | None = None,
    max_drop: float = 1.0,
    finetune: bool = True,
    tensorrt: bool = False,
    runtime: str = "onnxruntime",
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    max_images: int | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationReport:
    """Quantize a trained network by the first rung of a ladder that loses no more than `max_drop` points of top-1.

    A ladder is a list of ways to quantize, from the cheapest on; a rung is one of them, tried. Ranges are found on
    training images, rungs are scored on the validation images that were held out in training. When that is done the
    test images are asked, once, of the float file and the one chosen; where the drop on them is more than allowed, a
    note says so. Where the validation images can't be known (a weight file, other data), one half of the test images
    selects, and the report also gives the drop on the other half, which decided nothing.

    Where no rung is good enough, no 8-bit file is written but the float one, beside `out`, and `report.refused` says
    so; `report.raise_if_refused()` makes it an exception. An 8-bit file that an earlier call left at `out` is then
    removed, so that it is not taken for the new one.

    Rungs of ONNX: plain, bias correction, other ranges, asymmetric activations, no rounding before h-swish, a scale for
    each channel of depthwise inputs, sensitive layers in float, fine-tuning. Of LiteRT: plain, percentile ranges,
    least-error ranges, clipped weights, sensitive layers in float, fine-tuning; no bias correction.

    Args:
        run: a run folder, a comparison's folder for the network it recommends, a loaded network, or with `model` a
            weight file or `imagenet`.
        data: images as for training, or a data set in memory, of the network's classes; all splits are used.
        out: the file to write.
        to: `onnx` or `litert`; None takes the one the suffix of `out` names.
        max_drop: points of top-1 it may lose against the float file of the same format.
        finetune: whether training the network a little more may be the last rung.
        tensorrt: only ways TensorRT takes: symmetric int8 throughout. For ONNX files.
        runtime: `onnxruntime` or `openvino`: an ONNX file with h-swish is written for the integer kernels of one. Both
            run it, but ONNX Runtime is twice as fast with a pair in front of each h-swish, OpenVINO somewhat slower.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        max_images: score, and test, on so many images at most, evenly over the classes; None for all.
        calibration_images: training images to find ranges on.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        threads: for scoring; None for every usable core. Times are of one thread.
        seed: of every choice.
        progress: told of progress, and of each rung as it is scored.

    Raises:
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, are of other classes, or there are too few.
        QuantizationError: the quantizer can't quantize this network at all.
        ArtifactError: the name of `out` is of another format.
        MissingExtraError: the quantizer is not installed.
        MobilenetsError: `max_drop` is negative or no number, there is no such format, or it has no such option.
    """
    progress = progress or Silent()
    if fault := check_seed(seed):
        raise MobilenetsError(fault)
    run = recommended(run, progress)
    out = outside(data, Path(out))
    config = QuantizeConfig(
        out,
        kind_of(out, to),
        max_drop=max_drop,
        calibration_images=calibration_images,
        max_images=max_images,
        finetune=finetune,
        tensorrt=tensorrt,
        runtime=runtime,
        threads=threads,
        seed=seed,
        skip_bad=skip_bad,
    )
    config.check()
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    dataset = load_evaluation_data(
        subject, data, exclude=exclude, data_root=data_root, max_pixels=max_pixels, progress=progress
    )
    report = quantize_loaded(
        subject,
        dataset,
        config,
        progress,
        run="memory" if isinstance(run, SavedNetwork) else str(run),
        notes=notes,
        open_test=_sealed_test(subject, dataset, run, max_images, skip_bad, progress),
        on_rung=rung_messages(config.max_drop, progress),
    )
    return with_notes(report)


def _sealed_test(
    subject: Subject,
    dataset: Dataset,
    run: Path | str | SavedNetwork,
    max_images: int | None,
    skip_bad: bool,
    progress: Progress,
) -> Callable[[], EvaluationSet] | None:
    """What opens the test images when a rung is chosen; None where they have to select, which is recorded now."""
    if dataset.validation is None:
        record_for(run, "quantize", min(len(dataset.test), max_images or len(dataset.test)), dataset.digest)
        return None
    test = evaluation_set(subject, dataset, "test", max_images=max_images, skip_bad=skip_bad, progress=progress.update)
    return partial(SealedTestSet(test).open, ledger_folder(run), "quantize")


def rung_messages(max_drop: float, progress: Progress) -> OnRung:
    """What reports the rungs of one ladder as messages; the first has nothing to be compared with."""
    seen: list[Rung] = []

    def on_rung(rung: Rung) -> None:
        progress.message(rung_line(rung, max_drop, first=not seen))
        seen.append(rung)

    return on_rung
