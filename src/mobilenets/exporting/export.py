"""`export`: one file from one trained network, proven to answer as it does before it is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact, write_artifact
from mobilenets.errors import BackendError, ExportError
from mobilenets.evaluation.ledger import record_for
from mobilenets.exporting.confidence import PROMISE, Calibration, calibrate, check_promise
from mobilenets.exporting.describe import Subject, describe, golden_pairs
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.first_difference import first_difference
from mobilenets.exporting.parity import TOLERANCES, Parity, compare_answers, describe_failure, network_predict
from mobilenets.exporting.prepare import check_outputs
from mobilenets.exporting.proof import Questions, made_questions, split_questions
from mobilenets.exporting.subject import load_subject
from mobilenets.exporting.target import Target
from mobilenets.exporting.translators import translator
from mobilenets.exporting.trial import opened, write_proven
from mobilenets.exporting.watcher import Unwatched, Watcher
from mobilenets.models.saved import SavedNetwork

REJECTED = ".rejected"


@dataclass(frozen=True)
class ExportReport:
    """What an exported file was proven to be.

    Attributes:
        artifact: the file with its description.
        backend: the runtime it was asked in.
        asked: the images in words.
        parity: how near its logits are to the network's.
        network_top1: the network's accuracy on those images in percent; None for made images.
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
    data: str | Path | None = None,
    precision: str = "fp32",
    limit: int | None = None,
    promise: float = PROMISE,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    threads: int | None = None,
    skip_bad: bool = False,
    data_root: Path | None = None,
    watcher: Watcher | None = None,
) -> ExportReport:
    """Write a trained network as one artifact, and prove that it answers as the network does.

    The file is asked real images before it is written: its logits have to lie within a bound of the network's, set by
    the precision (`exporting.parity.TOLERANCES`). Then it is written beside `out`, opened again, and its golden pairs
    are checked; only then it is written to `out`.

    Args:
        run: a run folder, a loaded network, or with `model` a weight file or `imagenet`.
        to: the format: `onnx`, `openvino`, `litert` or `executorch`.
        out: the file to write, or OpenVINO's folder; what is there is replaced, but only by a file that passed.
        data: images whose test split is asked, as for training; None asks made images, and calibrates nothing.
        precision: `fp32`; `fp16` stores the weights in half the bytes, where the format can.
        limit: ask so many test images; None asks all of them.
        promise: how likely right an answer has to be to be given, 0 to below 1; else it is "unknown". The probability
            from which on it is goes into the file, where there is `data`.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        threads: for the runtime that is asked; None for every usable core.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        watcher: told of progress.

    Raises:
        ExportError: the network can't be written in this format or precision, or the file does not answer as it does.
            That file then stands beside `out`, with `.rejected` in its name, and `out` is as it was; the message names
            the first layer that differs.
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, or are of other classes; or there is no such promise.
        ArtifactError: the name of `out` is of another format.
        MissingExtraError: the format's packages are not installed; the message names the extra.
    """
    watcher = watcher or Unwatched()
    target = Target(to, precision, Path(out), threads)
    target.check()
    check_promise(promise)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    if data is None:
        questions = made_questions(subject)
    else:
        questions = split_questions(
            subject, data, limit=limit, skip_bad=skip_bad, data_root=data_root, progress=watcher.progress
        )
        record_for(run, "export", questions.count, questions.digest)
    proof = prove(subject, target, questions, watcher)
    return deliver(subject, target, questions, proof, notes, promise=promise)


@dataclass(frozen=True, eq=False)
class Proof:
    """A translated network and what it answered: logits `[N, K]` of the network and of the file, in which runtime."""

    exported: Exported
    expected: NDArray[np.float32]
    actual: NDArray[np.float32]
    parity: Parity
    backend: str


def prove(subject: Subject, target: Target, questions: Questions, watcher: Watcher) -> Proof:
    """Translate a network and ask both the same.

    Raises:
        ExportError: the file does not answer as the network does; it stands beside `target.out` as rejected.
    """
    predict = network_predict(subject.model, subject.preprocessing)
    check_outputs(predict(questions.batch(questions.golden[:1])).shape, len(subject.classes))
    watcher.message(f"translating to {target.to}, {target.precision}")
    exported = target.check()(subject.model, subject.preprocessing, precision=target.precision)
    expected = questions.ask(predict, "asking the network", watcher.progress)
    with opened(
        exported,
        target.to,
        precision=target.precision,
        preprocessing=subject.preprocessing,
        classes=subject.classes,
        threads=target.threads,
    ) as backend:
        actual = questions.ask(backend.predict, "asking the file", watcher.progress)
        name = backend.name
    proof = Proof(exported, expected, actual, compare_answers(expected, actual, TOLERANCES[target.precision]), name)
    if not proof.parity.holds:
        raise ExportError(_rejected(subject, target, questions, proof, watcher))
    return proof


def deliver(
    subject: Subject,
    target: Target,
    questions: Questions,
    proof: Proof,
    notes: tuple[str, ...],
    *,
    promise: float = PROMISE,
) -> ExportReport:
    """Write a file that passed, once the same beside it has been opened again and given its golden answers."""
    calibration = None
    if questions.labels is not None:
        calibration = calibrate(proof.actual, questions.labels, "test images", promise=promise)
        if calibration is None:
            notes = (*notes, f"{questions.count} test images are too few to calibrate probabilities on")
    golden = golden_pairs(questions.batch(questions.golden), proof.actual[questions.golden], target.precision)
    description = describe(
        subject,
        target.to,
        target.precision,
        proof.exported,
        golden,
        confidence=None if calibration is None else calibration.confidence,
        provenance=_provenance(questions, proof),
    )
    artifact, golden_difference = write_proven(target.out, proof.exported.payload, description, target.threads)
    return ExportReport(
        artifact=artifact,
        backend=proof.backend,
        asked=questions.what,
        parity=proof.parity,
        network_top1=_top1(proof.expected, questions),
        file_top1=_top1(proof.actual, questions),
        golden_difference=golden_difference,
        calibration=calibration,
        notes=(*notes, *questions.notes),
    )


def _rejected(subject: Subject, target: Target, questions: Questions, proof: Proof, watcher: Watcher) -> str:
    """Keep a file that failed beside the place it was meant for, and say what is wrong with it."""
    place = target.out.with_name(f"{target.out.stem}{REJECTED}{target.out.suffix}")
    images = questions.batch(questions.golden)
    # With the network's own answers, so that whoever opens the file is told that it does not give them.
    golden = golden_pairs(images, proof.expected[questions.golden], target.precision)
    description = describe(subject, target.to, target.precision, proof.exported, golden)
    write_artifact(place, proof.exported.payload, description)
    watcher.message("the file's answers differ: looking for the first layer that does")
    failure = describe_failure(proof.parity)
    try:
        found = first_difference(
            subject.model,
            subject.preprocessing,
            images,
            kind=target.to,
            translate=translator(target.to),
            precision=target.precision,
            tolerance=TOLERANCES[target.precision],
        )
    except (ExportError, BackendError) as error:
        where = f"which layer is the first can't be told ({error})"
    else:
        where = (
            "no layer does when it is exported in part"
            if found is None
            else f"the first layer to differ is {found.layer}, by {found.parity.max_difference:.2g}"
        )
    return f"{failure}; {where}. Don't use {place}; {target.out} is as it was"


def _provenance(questions: Questions, proof: Proof) -> dict[str, str]:
    golden = "made images" if questions.labels is None else questions.what
    told = {
        "golden_images": f"{len(questions.golden)} of {golden}",
        "checked_in": proof.backend,
        "checked_on": questions.what,
        "max_difference": f"{proof.parity.max_difference:.3g}",
    }
    top1 = _top1(proof.actual, questions)
    # `benchmark` reads these two for its picture of latency against accuracy.
    return told if top1 is None else {**told, "top1": f"{top1:.4f}", "top1 basis": questions.what}


def _top1(logits: NDArray[np.float32], questions: Questions) -> float | None:
    if questions.labels is None:
        return None
    return 100 * float((logits.argmax(axis=1) == questions.labels).mean())
