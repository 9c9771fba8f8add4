"""Making the files to choose from: a float one in every format, and 8-bit ones; what fails is told, not raised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobilenets.artifact.container import SUFFIXES, Artifact, read_artifact, read_payload, write_artifact
from mobilenets.artifact.description import Confidence, RuntimeSettings
from mobilenets.data.datasets import Dataset
from mobilenets.deployment.results import FileOutcome, Way
from mobilenets.deployment.select import points
from mobilenets.errors import ArtifactError, MissingExtraError, MobilenetsError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.exporters.describe import Subject
from mobilenets.exporters.formats import Target
from mobilenets.progress import Progress
from mobilenets.quantization.config import Order
from mobilenets.quantization.quantizing import quantize_loaded
from mobilenets.quantization.results import QuantizationReport
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden
from mobilenets.workflows.export import deliver, prove

TARGETS = ("onnx", "openvino", "litert", "executorch")
QUANTIZABLE = ("onnx", "litert")


@dataclass(frozen=True)
class Workshop:
    """What all files are made of.

    Attributes:
        subject: the network.
        dataset: its images, as `evaluation.images.load_evaluation_data` gives them.
        images: those that select, on which every float file is proven.
        folder: where the files go.
        run: where the network came from, in words.
        threads: for the runtimes that are asked; None for every usable core.
        ordering: the attributes of every `Order` but for `out` and `kind`.
        progress: told of progress.
    """

    subject: Subject
    dataset: Dataset
    images: EvaluationSet
    folder: Path
    run: str
    threads: int | None
    ordering: dict[str, Any]
    progress: Progress

    def make(
        self, targets: tuple[str, ...], *, int8: bool
    ) -> tuple[tuple[FileOutcome, ...], tuple[QuantizationReport, ...]]:
        """Make a float file of each target, then with `int8` an 8-bit one where the format has them.

        Returns:
            What became of each, and the ladders climbed.
        """
        steps: list[tuple[str, str]] = [(kind, "fp32") for kind in targets]
        steps += [(kind, "int8") for kind in targets if int8 and kind in QUANTIZABLE]
        outcomes: list[FileOutcome] = []
        ladders: list[QuantizationReport] = []
        for number, (kind, precision) in enumerate(steps, 1):
            name = file_name(kind, precision)
            self.progress.message(f"[{number}/{len(steps)}] {name}")
            if precision == "int8":
                outcome, ladder = self._quantized(kind, name)
                ladders += [ladder] if ladder is not None else []
            else:
                outcome = _told(kind, precision, name, lambda kind=kind, name=name: self._exported(kind, name))  # type: ignore[misc]
            outcomes.append(outcome)
            if outcome.reason:
                self.progress.message(f"  {outcome.status}: {outcome.reason}")
        return tuple(outcomes), tuple(ladders)

    def _exported(self, kind: str, name: str) -> FileOutcome:
        target = Target(kind, "fp32", self.folder / name, self.threads)
        target.check()
        report = deliver(self.subject, target, prove(self.subject, target, self.images, self.progress), ())
        return _made(kind, "fp32", name, report.artifact.path, report.artifact.file_bytes)

    def _quantized(self, kind: str, name: str) -> tuple[FileOutcome, QuantizationReport | None]:
        climbed: list[QuantizationReport] = []

        def make() -> FileOutcome:
            order = Order(self.folder / name, kind, **self.ordering)
            order.check()
            # The test images are not asked here: which file is kept is still to be chosen.
            report = quantize_loaded(self.subject, self.dataset, order, self.progress, run=self.run)
            climbed.append(report)
            if report.refused:
                # The float file it leaves instead is here already, under its own name.
                Path(report.out).unlink(missing_ok=True)
                (self.folder / name).unlink(missing_ok=True)  # of an earlier run
                best = report.best
                reason = f"no rung is within {points(report.max_drop)}: the best, {best.name}, lost {best.lost:.2f}"
                return FileOutcome(name, kind, "int8", "refused", reason=reason)
            path = Path(report.out)
            return _made(kind, "int8", name, path, read_artifact(path).file_bytes)

        outcome = _told(kind, "int8", name, make)
        return outcome, climbed[0] if climbed else None


def file_name(kind: str, precision: str) -> str:
    """Name of a candidate's file: `float.onnx`, `int8.tflite`, `float-openvino`."""
    stem = "int8" if precision == "int8" else "float"
    return f"{stem}{SUFFIXES[kind] or '-' + kind}"


def _made(kind: str, precision: str, name: str, path: Path, file_bytes: int) -> FileOutcome:
    return FileOutcome(name, kind, precision, "made", path=str(path), file_bytes=file_bytes)


def _told(kind: str, precision: str, name: str, make: Callable[[], FileOutcome]) -> FileOutcome:
    """One file that can't be made must not lose the others."""
    try:
        return make()
    except MissingExtraError as error:
        return FileOutcome(name, kind, precision, "missing", reason=str(error))
    except MobilenetsError as error:
        return FileOutcome(name, kind, precision, "failed", reason=str(error))


# Writing the file that is kept: the candidate's own content, with the settings it was found fastest with.


STEM = "model"


def keep(way: Way, out: Path, provenance: dict[str, str], confidence: Confidence | None = None) -> Artifact:
    """Write the kept way's file into `out` and check its golden pairs as its users' runtime will.

    A file that an earlier deployment kept there in another format is removed once the new one stands.

    Args:
        way: what was chosen.
        out: the deployment's folder.
        provenance: what to add to the file's own.
        confidence: what takes the place of the file's own; None leaves that.

    Raises:
        ArtifactError: the candidate is gone or damaged.
        RunError: the file can't be written.
    """
    candidate = read_artifact(Path(way.path))
    settings = RuntimeSettings(way.backend, way.precision, way.threads)
    description = replace(
        candidate.description,
        settings=settings,
        confidence=confidence or candidate.description.confidence,
        provenance={**candidate.description.provenance, **provenance},
    )
    path = out / f"{STEM}{SUFFIXES[way.kind]}"
    write_artifact(path, read_payload(candidate), description)
    artifact = read_artifact(path)
    check_golden(artifact, open_backend(artifact))
    _remove_former(out, path)
    return artifact


def _remove_former(out: Path, kept: Path) -> None:
    for suffix in SUFFIXES.values():
        path = out / f"{STEM}{suffix}"
        if path == kept or not path.exists():
            continue
        try:
            former = read_artifact(path)
        except ArtifactError:
            continue  # not of our making: it stays
        if former.description.settings is None:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
