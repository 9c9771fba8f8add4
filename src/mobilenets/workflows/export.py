"""`export`: one file from one trained network, verified to answer as it does before it is handed over."""

from __future__ import annotations

from pathlib import Path

from mobilenets.data.datasets import Dataset
from mobilenets.evaluation.images import load_evaluation_data, selection_and_test
from mobilenets.exporters.confidence import MIN_CONFIDENCE_ACCURACY, check_min_confidence_accuracy
from mobilenets.exporters.export import ExportReport, synthetic_set, verify_export, write_export
from mobilenets.exporters.subject import ExportTarget, load_subject, recommended
from mobilenets.images import MAX_PIXELS
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent


def export(
    run: Path | str | SavedNetwork,
    out: Path | str,
    *,
    to: str,
    data: str | Path | Dataset | None = None,
    min_confidence_accuracy: float = MIN_CONFIDENCE_ACCURACY,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    max_images: int | None = None,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    precision: str = "fp32",
    threads: int | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a trained network as one artifact, and verify that it answers as the network does.

    The file is asked real images before it is written: its logits have to lie within a bound of the network's, set by
    the precision (`exporters.verify.TOLERANCES`). Then it is written beside `out`, opened again, and its golden pairs
    are checked; only then it is written to `out`.

    Args:
        run: a run folder, a comparison's folder for the network it recommends, a loaded network, or with `model` a
            weight file or `imagenet`.
        out: the file to write, or OpenVINO's folder; what is there is replaced, but only by a file that passed.
        to: the format: `onnx`, `openvino`, `litert` or `executorch`.
        data: images as for training, or a data set in memory: the validation images calibrate and the test images are
            asked last; None asks synthetic images, and calibrates nothing.
        min_confidence_accuracy: how likely correct an answer has to be to be given, 0 to below 1; else it is "unknown".
            The probability from which on it is goes into the file, where there is `data`.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        max_images: ask so many images of each split at most; None asks all of them.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        precision: `fp32`; `fp16` stores the weights in half the bytes, where the format can.
        threads: for the runtime that is asked; None for every usable core.
        progress: told of progress.

    Raises:
        ExportError: the network can't be written in this format or precision, or the file does not answer as it does.
            That file then stands beside `out`, with `.rejected` in its name, and `out` is as it was; the message names
            the first layer that differs.
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, or are of other classes; or `min_confidence_accuracy` is out of range.
        ArtifactError: the name of `out` is of another format.
        MissingExtraError: the format's packages are not installed; the message names the extra.
    """
    progress = progress or Silent()
    run = recommended(run, progress)
    target = ExportTarget(to, precision, Path(out), threads)
    target.check()
    check_min_confidence_accuracy(min_confidence_accuracy)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    open_test = None
    if data is None:
        images = synthetic_set(subject)
    else:
        dataset = load_evaluation_data(
            subject, data, exclude=exclude, data_root=data_root, max_pixels=max_pixels, progress=progress
        )
        images, open_test = selection_and_test(
            subject, dataset, run, "export", max_images=max_images, skip_bad=skip_bad, progress=progress.update
        )
    verified = verify_export(subject, target, images, progress)
    tested = None
    if open_test is not None:
        tested = verify_export(subject, target, open_test(), progress, exported=verified.exported)
    return write_export(
        subject, target, verified, notes, min_confidence_accuracy=min_confidence_accuracy, tested=tested
    )
