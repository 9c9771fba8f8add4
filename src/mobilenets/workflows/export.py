"""`export`: one file from one trained network, proven to answer as it does before it is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.artifact.description import Confidence
from mobilenets.data.datasets import Dataset
from mobilenets.errors import ExportError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.images import load_evaluation_data, selection_and_test
from mobilenets.exporters.confidence import (
    PROMISE,
    Calibration,
    calibrate,
    check_promise,
    find_confidence,
    tell_worth,
)
from mobilenets.exporters.describe import Subject, describe, golden_pairs
from mobilenets.exporters.first_difference import reject
from mobilenets.exporters.formats import Target
from mobilenets.exporters.parity import TOLERANCES, Parity, compare_answers, network_predict, opened, write_proven
from mobilenets.exporters.prepare import Exported, check_outputs
from mobilenets.exporters.subject import load_subject, recommended
from mobilenets.exporters.tensorrt import tensorrt_sentence
from mobilenets.exporters.verify import IMAGES, Proof, golden_positions, measure_bounds, synthetic_set
from mobilenets.images import MAX_PIXELS
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent


@dataclass(frozen=True)
class ExportReport:
    """What an exported file was proven to be.

    Attributes:
        artifact: the file with its description.
        backend: the runtime it was asked in.
        asked: the images in words that the figures below are of.
        parity: how near its logits are to the network's.
        network_top1: the network's accuracy on those images in percent; None for synthetic images.
        file_top1: the file's.
        golden_difference: largest difference of a golden answer when the file, as written, was opened again.
        calibration: what calibrating its probabilities brought; None without data or with too little.
        notes: what the user should know, a sentence each.
    """

    artifact: Artifact
    backend: str
    asked: str
    parity: Parity
    network_top1: float | None
    file_top1: float | None
    golden_difference: float
    calibration: Calibration | None
    notes: tuple[str, ...]


def export(
    run: Path | str | SavedNetwork,
    to: str,
    out: Path | str,
    *,
    data: str | Path | Dataset | None = None,
    precision: str = "fp32",
    limit: int | None = None,
    promise: float = PROMISE,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    threads: int | None = None,
    skip_bad: bool = False,
    exclude: str | Path | None = None,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a trained network as one artifact, and prove that it answers as the network does.

    The file is asked real images before it is written: its logits have to lie within a bound of the network's, set by
    the precision (`exporting.parity.TOLERANCES`). Then it is written beside `out`, opened again, and its golden pairs
    are checked; only then it is written to `out`.

    Args:
        run: a run folder, a comparison's folder for the network it recommends, a loaded network, or with `model` a
            weight file or `imagenet`.
        to: the format: `onnx`, `openvino`, `litert` or `executorch`.
        out: the file to write, or OpenVINO's folder; what is there is replaced, but only by a file that passed.
        data: images as for training, or a data set in memory: the validation images calibrate and the test images are
            asked last; None asks synthetic images, and calibrates nothing.
        precision: `fp32`; `fp16` stores the weights in half the bytes, where the format can.
        limit: ask so many images of each split; None asks all of them.
        promise: how likely right an answer has to be to be given, 0 to below 1; else it is "unknown". The probability
            from which on it is goes into the file, where there is `data`.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        threads: for the runtime that is asked; None for every usable core.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: told of progress.

    Raises:
        ExportError: the network can't be written in this format or precision, or the file does not answer as it does.
            That file then stands beside `out`, with `.rejected` in its name, and `out` is as it was; the message names
            the first layer that differs.
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, or are of other classes; or there is no such promise.
        ArtifactError: the name of `out` is of another format.
        MissingExtraError: the format's packages are not installed; the message names the extra.
    """
    progress = progress or Silent()
    run = recommended(run, progress)
    target = Target(to, precision, Path(out), threads)
    target.check()
    check_promise(promise)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    open_test = None
    if data is None:
        images = synthetic_set(subject)
    else:
        dataset = load_evaluation_data(
            subject, data, exclude=exclude, data_root=data_root, max_pixels=max_pixels, progress=progress
        )
        images, open_test = selection_and_test(
            subject, dataset, run, "export", max_images=limit, skip_bad=skip_bad, progress=progress.update
        )
    proof = prove(subject, target, images, progress)
    tested = None if open_test is None else prove(subject, target, open_test(), progress, exported=proof.exported)
    return deliver(subject, target, proof, notes, promise=promise, tested=tested)


def prove(
    subject: Subject, target: Target, images: EvaluationSet, progress: Progress, *, exported: Exported | None = None
) -> Proof:
    """Translate a network, unless it is translated already, and ask both the same.

    Raises:
        ExportError: the file does not answer as the network does; it stands beside `target.out` as rejected.
    """
    predict = network_predict(subject.model, subject.preprocessing)
    check_outputs(predict(images.batch([0])).shape, len(subject.classes))
    if exported is None:
        progress.message(f"translating to {target.to}, {target.precision}")
        exported = target.check()(subject.model, subject.preprocessing, precision=target.precision)
    expected = images.predict(predict, "asking the network", progress.update)
    with opened(
        exported,
        target.to,
        precision=target.precision,
        preprocessing=subject.preprocessing,
        classes=subject.classes,
        threads=target.threads,
    ) as backend:
        actual = images.predict(backend.predict, "asking the file", progress.update)
        name = backend.name
    parity = compare_answers(expected, actual, TOLERANCES[target.precision])
    proof = Proof(images, exported, expected, actual, parity, name)
    if not proof.parity.holds:
        raise ExportError(reject(subject, target, proof, progress))
    return proof


def deliver(
    subject: Subject,
    target: Target,
    proof: Proof,
    notes: tuple[str, ...],
    *,
    promise: float = PROMISE,
    tested: Proof | None = None,
) -> ExportReport:
    """Write a file that passed, once the same beside it has been opened again and given its golden answers.

    Args:
        subject: the network.
        target: where to, and as what.
        proof: of the images that decide; some of them become golden ones.
        notes: what the user should know, a sentence each.
        promise: how likely right an answer has to be to be given.
        tested: the same of the test images, where they did not decide; its figures are reported.
    """
    images, reported = proof.images, tested or proof
    confidence, calibration = _calibrated(proof, tested, promise)
    if images.labels is not None and confidence is None:
        notes = (*notes, f"{images.what} are too few to calibrate probabilities on")
    asked = golden_positions(images)
    golden = golden_pairs(
        images.batch(asked),
        proof.actual[asked],
        target.precision,
        _bounds(subject, target, proof),
    )
    description = describe(
        subject,
        target.to,
        target.precision,
        proof.exported,
        golden,
        confidence=confidence,
        provenance=_provenance(target, proof, reported),
    )
    artifact, golden_difference = write_proven(target.out, proof.exported.payload, description, target.threads)
    return ExportReport(
        artifact=artifact,
        backend=proof.backend,
        asked=reported.images.what,
        parity=reported.parity,
        network_top1=_top1(reported, reported.expected),
        file_top1=_top1(reported, reported.actual),
        golden_difference=golden_difference,
        calibration=calibration,
        notes=tuple(dict.fromkeys((*notes, *images.notes, *reported.images.notes))),
    )


def _top1(proof: Proof, logits: NDArray[np.float32]) -> float | None:
    """Accuracy in percent; None for synthetic images."""
    return None if proof.images.labels is None else proof.images.top1(logits)


def _bounds(subject: Subject, target: Target, proof: Proof) -> dict[str, float]:
    """Of the golden images and as many others as the measuring takes."""
    images = proof.images
    spread = np.linspace(0, len(images) - 1, min(IMAGES, len(images))).astype(np.int64)
    asked = np.union1d(spread, golden_positions(images))
    return measure_bounds(
        subject,
        target.to,
        target.precision,
        proof.exported,
        images.batch(asked),
        proof.actual[asked],
        real=images.labels is not None,
        threads=target.threads,
    )


def _calibrated(proof: Proof, tested: Proof | None, promise: float) -> tuple[Confidence | None, Calibration | None]:
    """What goes into the file, and what it is worth where that can be told."""
    images = proof.images
    if images.labels is None:
        return None, None
    if not images.validated:
        calibration = calibrate(proof.actual, images.labels, "test images", promise=promise)
        return (None if calibration is None else calibration.confidence), calibration
    found = find_confidence(proof.actual, images.labels, images.what, promise=promise)
    if found is None or tested is None or tested.images.labels is None:
        return found, None
    calibration = tell_worth(found, tested.actual, tested.images.labels, tested.images.what)
    return calibration.confidence, calibration


def _provenance(target: Target, proof: Proof, reported: Proof) -> dict[str, str]:
    images, asked = proof.images, reported.images
    golden = "synthetic images" if images.labels is None else images.what
    told = {
        "golden_images": f"{len(golden_positions(images))} of {golden}",
        "checked_in": reported.backend,
        "checked_on": asked.what,
        "max_difference": f"{reported.parity.max_difference:.3g}",
    }
    if target.to == "onnx":
        told["tensorrt"] = tensorrt_sentence(proof.exported.payload)
    top1 = _top1(reported, reported.actual)
    # `benchmark` reads these two for its picture of latency against accuracy.
    return told if top1 is None else {**told, "top1": f"{top1:.4f}", "top1 basis": asked.what}
