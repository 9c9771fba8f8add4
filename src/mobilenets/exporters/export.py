"""Writing one file from one network, verified before it stands under its name.

The file is asked the same images as the network before it is written. Then it is written beside its place, opened
again, and its golden pairs are checked; only then it is written there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from mobilenets.artifact.container import Artifact, check_suffix, read_artifact, write_artifact
from mobilenets.artifact.description import Confidence, Description
from mobilenets.errors import ExportError, RunError
from mobilenets.evaluation.evaluation_set import ArrayImages, EvaluationSet
from mobilenets.exporters.confidence import (
    MIN_CONFIDENCE_ACCURACY,
    ConfidenceReport,
    calibrate,
    evaluate_confidence,
    find_confidence,
)
from mobilenets.exporters.onnx import tensorrt_sentence, to_onnx
from mobilenets.exporters.prepare import Exported, check_outputs
from mobilenets.exporters.subject import ExportTarget, Subject, describe
from mobilenets.exporters.verify import (
    BOUND_IMAGES,
    GOLDEN_IMAGES,
    TOLERANCES,
    Parity,
    VerifiedExport,
    compare_answers,
    describe_failure,
    golden_pairs,
    golden_positions,
    measure_bounds,
    network_predict,
    opened,
)
from mobilenets.files import make_folder, temporary_folder, unharmed
from mobilenets.formatting import megabytes
from mobilenets.image_record import ImageRecord
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress
from mobilenets.result import Result
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden

SYNTHETIC_IMAGES = 32
_COARSE = 5


@dataclass(frozen=True, repr=False)
class ExportReport(Result):
    """What an exported file was verified to be.

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
    calibration: ConfidenceReport | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the golden images, which are in the file."""
        description, calibration = self.artifact.description, self.calibration
        return {
            "path": str(self.artifact.path),
            "kind": description.kind,
            "precision": description.precision,
            "file_bytes": self.artifact.file_bytes,
            "digest": description.digest,
            "network": dict(description.network),
            "classes": len(description.classes),
            "image_shape": list(description.image_shape),
            "dynamic_batch": description.dynamic_batch,
            "backend": self.backend,
            "asked": self.asked,
            "parity": vars(self.parity),
            "network_top1": self.network_top1,
            "file_top1": self.file_top1,
            "golden_difference": self.golden_difference,
            "calibration": None
            if calibration is None
            else {**vars(calibration), "confidence": vars(calibration.confidence)},
            "notes": list(self.notes),
            "provenance": dict(description.provenance),
        }

    def _headline(self) -> str:
        description = self.artifact.description
        accuracy = "" if self.file_top1 is None else f", top-1 {self.file_top1:.2f} %"
        size = megabytes(self.artifact.file_bytes)
        return f"{self.artifact.path.name}: {description.kind}, {description.precision}, {size} MB{accuracy}"


def verify_export(
    subject: Subject,
    target: ExportTarget,
    images: EvaluationSet,
    progress: Progress,
    *,
    exported: Exported | None = None,
) -> VerifiedExport:
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
    verified = VerifiedExport(images, exported, expected, actual, parity, name)
    if not parity.holds:
        from mobilenets.exporters.first_difference import reject

        raise ExportError(reject(subject, target, verified, progress))
    return verified


def write_export(
    subject: Subject,
    target: ExportTarget,
    verified: VerifiedExport,
    notes: tuple[str, ...],
    *,
    min_confidence_accuracy: float = MIN_CONFIDENCE_ACCURACY,
    tested: VerifiedExport | None = None,
) -> ExportReport:
    """Write a file that passed, once the same beside it has been opened again and given its golden answers.

    Args:
        subject: the network.
        target: where to, and as what.
        verified: of the images that decide; some of them become golden ones.
        notes: what the user should know, a sentence each.
        min_confidence_accuracy: how likely correct an answer has to be to be given.
        tested: the same of the test images, where they did not decide; its figures are reported.
    """
    images, reported = verified.images, tested or verified
    confidence, calibration = _calibrated(verified, tested, min_confidence_accuracy)
    if images.labels is not None and confidence is None:
        notes = (*notes, f"{images.what} are too few to calibrate probabilities on")
    asked = golden_positions(images)
    golden = golden_pairs(
        images.batch(asked),
        verified.actual[asked],
        target.precision,
        _bounds(subject, target, verified),
    )
    description = describe(
        subject,
        target.to,
        target.precision,
        verified.exported,
        golden,
        confidence=confidence,
        provenance=_provenance(target, verified, reported),
    )
    artifact, golden_difference = write_verified(target.out, verified.exported.payload, description, target.threads)
    return ExportReport(
        artifact=artifact,
        backend=verified.backend,
        asked=reported.images.what,
        parity=reported.parity,
        network_top1=_top1(reported, reported.expected),
        file_top1=_top1(reported, reported.actual),
        golden_difference=golden_difference,
        calibration=calibration,
        notes=tuple(dict.fromkeys((*notes, *images.notes, *reported.images.notes))),
    )


def _top1(verified: VerifiedExport, logits: NDArray[np.float32]) -> float | None:
    """Accuracy in percent; None for synthetic images."""
    return None if verified.images.labels is None else verified.images.top1(logits)


def _bounds(subject: Subject, target: ExportTarget, verified: VerifiedExport) -> dict[str, float]:
    """Of the golden images and as many others as the measuring takes."""
    images = verified.images
    spread = np.linspace(0, len(images) - 1, min(BOUND_IMAGES, len(images))).astype(np.int64)
    asked = np.union1d(spread, golden_positions(images))
    return measure_bounds(
        subject,
        target.to,
        target.precision,
        verified.exported,
        images.batch(asked),
        verified.actual[asked],
        real=images.labels is not None,
        threads=target.threads,
    )


def _calibrated(
    verified: VerifiedExport, tested: VerifiedExport | None, min_accuracy: float
) -> tuple[Confidence | None, ConfidenceReport | None]:
    """What goes into the file, and what it is worth where that can be told."""
    images = verified.images
    if images.labels is None:
        return None, None
    if not images.validated:
        calibration = calibrate(verified.actual, images.labels, "test images", min_accuracy=min_accuracy)
        return (None if calibration is None else calibration.confidence), calibration
    found = find_confidence(verified.actual, images.labels, images.what, min_accuracy=min_accuracy)
    if found is None or tested is None or tested.images.labels is None:
        return found, None
    calibration = evaluate_confidence(found, tested.actual, tested.images.labels, tested.images.what)
    return calibration.confidence, calibration


def _provenance(target: ExportTarget, verified: VerifiedExport, reported: VerifiedExport) -> dict[str, str]:
    images, asked = verified.images, reported.images
    golden = "synthetic images" if images.labels is None else images.what
    provenance = {
        "golden_images": f"{len(golden_positions(images))} of {golden}",
        "checked_in": reported.backend,
        "checked_on": asked.what,
        "max_difference": f"{reported.parity.max_difference:.3g}",
    }
    if target.to == "onnx":
        provenance["tensorrt"] = tensorrt_sentence(verified.exported.payload)
    top1 = _top1(reported, reported.actual)
    # `benchmark` reads these two for its picture of latency against accuracy.
    return provenance if top1 is None else {**provenance, "top1": f"{top1:.4f}", "top1 basis": asked.what}


def write_verified(
    path: Path, payload: Mapping[str, bytes], description: Description, threads: int | None = None
) -> tuple[Artifact, float]:
    """Write an artifact once the same, written beside `path` and opened again, has given its golden answers.

    Args:
        path: the file, or OpenVINO's folder; on any failure what is there is as it was, but a folder that can't be
            written whole may be left with old files and new ones, which is refused when read.
        payload: the format's own files by name, as `write_artifact` takes them.
        description: with the golden answers.
        threads: for the runtime; None as `open_backend` has it.

    Returns:
        The artifact, and the largest difference of a golden answer.

    Raises:
        ArtifactError: it does not give its golden answers.
        BackendError: its runtime can't open it.
        RunError: it can't be written.
    """
    make_folder(path.parent)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(path.parent, prefix=f".{path.stem}-"))
        except OSError as error:
            raise RunError(f"{path}: can't be written ({error.strerror or error}){unharmed(path)}") from error
        written = read_artifact(write_artifact(folder / path.name, payload, description).path)
        difference = check_golden(written, open_backend(written, threads=threads))
    write_artifact(path, payload, description)
    return read_artifact(path), difference


def synthetic_images(preprocessing: Preprocessing, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured noise, uint8 `[count, H, W, C]`: the same on every machine.

    Neighbouring pixels of pictures are similar; of plain noise they are not, and most networks hardly answer to it. So
    random colours on a coarse grid are enlarged, with a gradient from dark to light across.
    """
    random = np.random.default_rng(seed)
    size, channels = preprocessing.image_size, preprocessing.channels
    ramp = np.linspace(-60, 60, _COARSE)[None, :, None]
    images = np.empty((count, size, size, channels), np.uint8)
    for image in images:
        coarse = np.clip(random.integers(0, 256, (_COARSE, _COARSE, channels)) + ramp, 0, 255).astype(np.uint8)
        for channel in range(channels):
            plane = Image.fromarray(coarse[:, :, channel]).resize((size, size), Image.Resampling.BILINEAR)
            image[:, :, channel] = np.asarray(plane)
    return images


def synthetic_set(subject: Subject) -> EvaluationSet:
    """What a file is verified on where there is no data."""
    return EvaluationSet(
        what=f"{SYNTHETIC_IMAGES} synthetic images",
        images=ArrayImages(synthetic_images(subject.preprocessing, SYNTHETIC_IMAGES)),
        labels=None,
        notes=("without --data it is verified on synthetic images only, and its probabilities are not calibrated",),
    )


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    trained_on: ImageRecord | None = None,
) -> Artifact:
    """Write any network to `path` as a described ONNX file, whole or not at all; the model itself is not touched.

    The short way, for a network in memory and without images of its own: it is checked on synthetic images only.
    `export` also verifies the file on a test split and calibrates its probabilities.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        path: the file to write, ending in `.onnx`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        classes: the K class names in output order.
        trained_on: which images it was trained on, for the file not to be scored on them.

    Returns:
        The file with its description.

    Raises:
        ExportError: the network can't be written as ONNX, has not as many outputs as there are classes, or the file
            does not answer as it does.
        ArtifactError: the name does not end in `.onnx`.
        MissingExtraError: the extra `export` is not installed.
    """
    path = Path(path)
    check_suffix(path, "onnx")
    subject = Subject(copy.deepcopy(model).eval(), tuple(classes), preprocessing, {}, trained_on)
    images = synthetic_images(preprocessing, GOLDEN_IMAGES)
    expected = network_predict(subject.model, preprocessing)(images)
    check_outputs(expected.shape, len(classes))
    exported = to_onnx(model, preprocessing)
    with opened(exported, "onnx", precision="fp32", preprocessing=preprocessing, classes=classes, threads=1) as backend:
        actual = backend.predict(images)
    parity = compare_answers(expected, actual)
    if not parity.holds:
        raise ExportError(f"{describe_failure(parity)}: nothing is written to {path}")
    bounds = measure_bounds(subject, "onnx", "fp32", exported, images, actual, real=False, threads=1)
    golden = golden_pairs(images, actual, "fp32", bounds)
    return write_artifact(path, exported.payload, describe(subject, "onnx", "fp32", exported, golden))
