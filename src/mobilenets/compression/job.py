"""What one quantization works with: the network, its images, its float file, and how files are scored and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact, read_artifact, write_artifact
from mobilenets.compression.calibration import CalibrationImages, draw_calibration
from mobilenets.compression.judging import Judge, prepare_judge
from mobilenets.compression.ladder import Built
from mobilenets.compression.results import Top1
from mobilenets.data.datasets import Dataset
from mobilenets.exporting.confidence import calibrate
from mobilenets.exporting.describe import Subject, describe, golden_pairs
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.golden_images import choose_golden
from mobilenets.exporting.translators import translator
from mobilenets.exporting.trial import opened
from mobilenets.exporting.watcher import Watcher
from mobilenets.runtime.backend import open_backend


@dataclass(eq=False)
class Job:
    """What stays the same from rung to rung, and the answers of the file judged last."""

    subject: Subject
    dataset: Dataset
    kind: str
    judge: Judge
    calibration: CalibrationImages
    float_exported: Exported
    float_top1: Top1
    float_logits: NDArray[np.float32]
    threads: int | None
    seed: int
    watcher: Watcher
    latest: NDArray[np.float32]

    def judge_built(self, built: Built) -> Top1:
        """Score a rung's file, and remember its answers: those of the chosen one are the last."""
        self.latest = _ask(self.subject, built.exported, self.kind, "int8", self.judge, self.threads, self.watcher)
        return self.judge.top1(self.latest)

    def write(self, path: Path, exported: Exported, precision: str, extra: dict[str, str]) -> Artifact:
        """Write a file with its golden pairs and calibrated confidence, and read it back as its users will."""
        logits = self.float_logits if precision == "fp32" else self.latest
        images = self.calibration.images[choose_golden(self.calibration.labels, seed=self.seed)]
        with opened(
            exported,
            self.kind,
            precision=precision,
            preprocessing=self.subject.preprocessing,
            classes=self.subject.classes,
            threads=self.threads,
        ) as backend:
            golden = golden_pairs(images, backend.predict(images), precision)
        calibrated = calibrate(logits, self.judge.labels, f"test images of {self.dataset.name}", seed=self.seed)
        confidence = None if calibrated is None else calibrated.confidence
        told = {
            **extra,
            "top1": f"{self.judge.top1(logits).whole:.4f}",
            "top1 basis": f"{len(self.judge.labels):,} test images of {self.dataset.name}",
        }
        description = describe(
            self.subject, self.kind, precision, exported, golden, confidence=confidence, provenance=told
        )
        write_artifact(path, exported.payload, description)
        artifact = read_artifact(path)
        artifact.description.golden.check(open_backend(artifact, threads=self.threads).predict, str(path))
        return artifact


def prepare_job(
    subject: Subject,
    dataset: Dataset,
    kind: str,
    watcher: Watcher,
    calibration_images: int,
    max_images: int | None,
    seed: int,
    skip_bad: bool,
    threads: int | None,
) -> Job:
    """Draw the images, export the float network and score it.

    Args:
        subject: the network.
        dataset: its images.
        kind: `onnx` or `litert`.
        watcher: told of progress.
        calibration_images: training images to find ranges on.
        max_images: test images to judge on at most; None for all.
        seed: of every choice.
        skip_bad: leave unreadable images out.
        threads: of the runtime; None for every usable core.

    Raises:
        DataError: too few images.
        BadImagesError: images that can't be read.
    """
    calibration = draw_calibration(
        dataset.train, subject.preprocessing, images=calibration_images, seed=seed, skip_bad=skip_bad
    )
    judge = prepare_judge(
        dataset.test,
        subject.preprocessing,
        subject.classes,
        seed=seed,
        max_images=max_images,
        skip_bad=skip_bad,
        progress=lambda done, total: watcher.progress("reading test images", done, total),
    )
    watcher.message(f"exporting the float network to {kind}")
    exported = translator(kind)(subject.model, subject.preprocessing)
    logits = _ask(subject, exported, kind, "fp32", judge, threads, watcher)
    top1 = judge.top1(logits)
    watcher.message(f"float: top-1 {top1.selection:.2f} % on the images that decide, {top1.whole:.2f} % on all")
    return Job(
        subject, dataset, kind, judge, calibration, exported, top1, logits, threads, seed, watcher, latest=logits
    )


def _ask(
    subject: Subject,
    exported: Exported,
    kind: str,
    precision: str,
    judge: Judge,
    threads: int | None,
    watcher: Watcher,
) -> NDArray[np.float32]:
    with opened(
        exported,
        kind,
        precision=precision,
        preprocessing=subject.preprocessing,
        classes=subject.classes,
        threads=threads,
    ) as backend:
        return judge.logits(backend.predict, lambda done, total: watcher.progress("scoring", done, total))
