"""What one quantization works with: the network, its images, its float file, and how files are scored and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact, read_artifact, write_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.data.datasets import Dataset
from mobilenets.evaluation.evaluation_set import MIN_SELECTING, EvaluationSet
from mobilenets.evaluation.images import evaluation_set
from mobilenets.evaluation.predictions import Predict
from mobilenets.exporters.confidence import calibrate, evaluate_confidence, find_confidence
from mobilenets.exporters.onnx import tensorrt_sentence
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import Subject, describe, translator
from mobilenets.exporters.verify import BOUND_IMAGES, choose_golden, golden_pairs, measure_bounds, opened
from mobilenets.progress import Progress
from mobilenets.quantization.config import QuantizeConfig
from mobilenets.quantization.results import Top1
from mobilenets.quantization.search import CalibrationImages, QuantizedFile, SearchResult, draw_calibration, score
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden


@dataclass(eq=False)
class QuantizationContext:
    """What stays the same from rung to rung, and the answers of the file scored last.

    `images` select. `tested`, the test images, and `test_answers`, logits `[N, K]` of each file by its precision, come
    when a rung is chosen, where validation images did that.
    """

    subject: Subject
    dataset: Dataset
    kind: str
    images: EvaluationSet
    calibration: CalibrationImages
    float_exported: Exported
    float_top1: Top1
    float_logits: NDArray[np.float32]
    threads: int | None
    seed: int
    progress: Progress
    latest: NDArray[np.float32]
    tested: EvaluationSet | None = None
    test_answers: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def score_file(self, made: QuantizedFile) -> Top1:
        """Accuracy of a rung's file; its answers are kept, and those of the chosen one are the last."""
        ask = _ask(self.images, self.progress)
        self.latest = _answers(self.subject, made.exported, self.kind, "int8", self.threads, ask)
        return score(self.images, self.latest)

    def write(self, path: Path, exported: Exported, precision: str, extra: dict[str, str]) -> Artifact:
        """Write a file with its golden pairs and calibrated confidence, and read it back as its users will."""
        logits = self.float_logits if precision == "fp32" else self.latest
        golden = self._golden(exported, precision)
        top1, basis = self.images.top1(logits), self.images.what
        if self.tested is not None:
            top1, basis = self.tested.top1(self.test_answers[precision]), self.tested.what
        if self.kind == "onnx":
            extra = {**extra, "tensorrt": tensorrt_sentence(exported.payload)}
        description = describe(
            self.subject,
            self.kind,
            precision,
            exported,
            golden,
            confidence=self._confidence(logits, precision),
            provenance={**extra, "top1": f"{top1:.4f}", "top1 basis": basis},
        )
        write_artifact(path, exported.payload, description)
        artifact = read_artifact(path)
        check_golden(artifact, open_backend(artifact, threads=self.threads))
        return artifact

    def _golden(self, exported: Exported, precision: str) -> GoldenPairs:
        """Training images with the file's answers; more of them say how far other ways to run it may be off."""
        golden = choose_golden(self.calibration.labels, seed=self.seed)
        count = len(self.calibration.images)
        asked = np.union1d(np.linspace(0, count - 1, min(BOUND_IMAGES, count)).astype(np.int64), golden)
        images = self.calibration.images[asked]

        def answers(file: Exported, precision: str) -> NDArray[np.float32]:
            return _answers(self.subject, file, self.kind, precision, self.threads, lambda predict: predict(images))

        logits = answers(exported, precision)
        bounds = measure_bounds(
            self.subject,
            self.kind,
            precision,
            exported,
            images,
            logits,
            real=True,
            unrounded=answers(self.float_exported, "fp32") if precision == "int8" else None,
            threads=self.threads,
        )
        chosen = np.isin(asked, golden)
        return golden_pairs(images[chosen], logits[chosen], precision, bounds)

    @property
    def report_images(self) -> int:
        """How many images did not select and were scored nevertheless."""
        return len(self.images.report if self.tested is None else self.tested)

    def score_test(self, images: EvaluationSet, found: SearchResult) -> SearchResult:
        """Ask the test images of the float file and of the one chosen, now that nothing is left to choose.

        Returns:
            The same with the chosen rung's, and the context's float file's, accuracy on them.
        """
        files = {"fp32": self.float_exported}
        if found.chosen is not None:
            files["int8"] = found.chosen.exported

        def ask(predict: Predict) -> NDArray[np.float32]:
            return images.predict(predict, "scoring test images", self.progress.update)

        self.tested = images
        self.test_answers = {
            precision: _answers(self.subject, exported, self.kind, precision, self.threads, ask)
            for precision, exported in files.items()
        }
        self.float_top1 = replace(self.float_top1, report=images.top1(self.test_answers["fp32"]))
        if found.chosen is None:
            return found
        top1 = replace(found.rungs[-1].top1, report=images.top1(self.test_answers["int8"]))
        last = replace(found.rungs[-1], top1=top1, drop=top1.drop_from(self.float_top1))
        return replace(found, rungs=(*found.rungs[:-1], last))

    def _confidence(self, logits: NDArray[np.float32], precision: str) -> Confidence | None:
        """Found on the images that decide; told by those that don't, where these are asked."""
        labels = self.images.truth
        if not self.images.validated:
            calibrated = calibrate(logits, labels, f"test images of {self.dataset.name}", seed=self.seed)
            return None if calibrated is None else calibrated.confidence
        found = find_confidence(logits, labels, self.images.what)
        if found is None or self.tested is None:
            return found
        return evaluate_confidence(found, self.test_answers[precision], self.tested.truth, self.tested.what).confidence


def prepare_context(
    subject: Subject,
    dataset: Dataset,
    config: QuantizeConfig,
    progress: Progress,
    float_exported: Exported | None = None,
) -> QuantizationContext:
    """Draw the images, export the float network unless it is exported already, and score it.

    Args:
        subject: the network.
        dataset: its images; where they have validation images, these select.
        config: what is asked for.
        progress: told of progress.
        float_exported: the network in `config.kind`, where it is exported already.

    Raises:
        DataError: too few images.
        BadImagesError: images that can't be read.
    """
    calibration = draw_calibration(
        dataset.train,
        subject.preprocessing,
        images=config.calibration_images,
        seed=config.seed,
        skip_bad=config.skip_bad,
    )
    validated = dataset.validation is not None
    images = evaluation_set(
        subject,
        dataset,
        "validation" if validated else "test",
        max_images=config.max_images,
        least=MIN_SELECTING,
        skip_bad=config.skip_bad,
        seed=config.seed,
        progress=progress.update,
    )
    if float_exported is None:
        progress.message(f"exporting the float network to {config.kind}")
        float_exported = translator(config.kind)(subject.model, subject.preprocessing)
    logits = _answers(subject, float_exported, config.kind, "fp32", config.threads, _ask(images, progress))
    top1 = score(images, logits)
    on_all = "" if validated else f", {top1.whole:.2f} % on all"
    progress.message(f"float: top-1 {top1.selection:.2f} % on the images that decide{on_all}")
    return QuantizationContext(
        subject,
        dataset,
        config.kind,
        images,
        calibration,
        float_exported,
        top1,
        logits,
        config.threads,
        config.seed,
        progress,
        latest=logits,
    )


def _answers(
    subject: Subject,
    exported: Exported,
    kind: str,
    precision: str,
    threads: int | None,
    ask: Callable[[Predict], NDArray[np.float32]],
) -> NDArray[np.float32]:
    with opened(
        exported,
        kind,
        precision=precision,
        preprocessing=subject.preprocessing,
        classes=subject.classes,
        threads=threads,
    ) as backend:
        return ask(backend.predict)


def _ask(images: EvaluationSet, progress: Progress) -> Callable[[Predict], NDArray[np.float32]]:
    return lambda predict: images.predict(predict, "scoring", progress.update)
