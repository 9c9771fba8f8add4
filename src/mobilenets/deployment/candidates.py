"""Making the files to choose from: a float one in every format, and 8-bit ones; what fails is reported, not raised.

Each format is exported once: an 8-bit file starts from the float export. The file that is kept is written anew, with
the settings it was found fastest with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mobilenets.artifact.container import SUFFIXES, Artifact, read_artifact, read_payload, write_artifact
from mobilenets.artifact.description import Confidence, RuntimeSettings
from mobilenets.data.datasets import Dataset
from mobilenets.deployment.results import FileOutcome, Way
from mobilenets.errors import ArtifactError, MissingExtraError, MobilenetsError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.exporters.export import verify_export, write_export
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import ExportTarget, Subject
from mobilenets.progress import Progress
from mobilenets.quantization.config import QuantizeConfig
from mobilenets.quantization.quantize import OnRung, quantize_candidate
from mobilenets.quantization.results import QuantizationReport, points
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden

TARGETS = ("onnx", "openvino", "litert", "executorch")
QUANTIZABLE = ("onnx", "litert")
STEM = "model"


@dataclass(frozen=True)
class FloatExport:
    """A float file that was made: the translated network, which 8-bit files start from too, and the file's size."""

    exported: Exported
    file_bytes: int


@dataclass(frozen=True)
class CandidateBuilder:
    """Makes the files to choose from.

    Attributes:
        subject: the network.
        dataset: its images, as `evaluation.images.load_evaluation_data` gives them.
        images: those that select, on which every float file is verified.
        folder: where the files go.
        run: where the network came from, in words.
        config: how 8-bit files are made; `out` and `kind` are set for each.
        threads: for the runtimes that are asked; None for every usable core.
        progress: told of progress.
        on_rung: gives what each ladder search is to tell of its rungs.
    """

    subject: Subject
    dataset: Dataset
    images: EvaluationSet
    folder: Path
    run: str
    config: QuantizeConfig
    threads: int | None
    progress: Progress
    on_rung: Callable[[], OnRung | None] = lambda: None
    _floats: dict[str, FloatExport] = field(default_factory=dict, init=False)

    def make(
        self, targets: tuple[str, ...], *, int8: bool
    ) -> tuple[tuple[FileOutcome, ...], tuple[QuantizationReport, ...]]:
        """Make a float file of each target, then with `int8` an 8-bit one where the format has them.

        Returns:
            What became of each, and the ladder searches.
        """
        steps: list[tuple[str, str]] = [(kind, "fp32") for kind in targets]
        steps += [(kind, "int8") for kind in targets if int8 and kind in QUANTIZABLE]
        outcomes: list[FileOutcome] = []
        searches: list[QuantizationReport] = []
        for number, (kind, precision) in enumerate(steps, 1):
            name = file_name(kind, precision)
            self.progress.message(f"[{number}/{len(steps)}] {name}")
            make = self._exported if precision == "fp32" else partial(self._quantized, searches)
            outcome = _outcome(kind, precision, name, partial(make, kind, name))
            outcomes.append(outcome)
            if outcome.reason:
                self.progress.message(f"  {outcome.status}: {outcome.reason}")
        return tuple(outcomes), tuple(searches)

    def _exported(self, kind: str, name: str) -> FileOutcome:
        target = ExportTarget(kind, "fp32", self.folder / name, self.threads)
        target.check()
        verified = verify_export(self.subject, target, self.images, self.progress)
        artifact = write_export(self.subject, target, verified, ()).artifact
        self._floats[kind] = FloatExport(verified.exported, artifact.file_bytes)
        return _made(kind, "fp32", name, artifact.path, artifact.file_bytes)

    def _quantized(self, searches: list[QuantizationReport], kind: str, name: str) -> FileOutcome:
        config = replace(self.config, out=self.folder / name, kind=kind)
        config.check()
        made = self._floats.get(kind)
        report = quantize_candidate(
            self.subject,
            self.dataset,
            config,
            self.progress,
            run=self.run,
            float_exported=None if made is None else made.exported,
            float_bytes=0 if made is None else made.file_bytes,
            on_rung=self.on_rung(),
        )
        searches.append(report)
        if report.refused:
            (self.folder / name).unlink(missing_ok=True)  # of an earlier run
            best = report.best
            reason = f"no rung is within {points(report.max_drop)}: the best, {best.name}, lost {best.lost:.2f}"
            return FileOutcome(name, kind, "int8", "refused", reason=reason)
        path = Path(report.out)
        return _made(kind, "int8", name, path, read_artifact(path).file_bytes)


def file_name(kind: str, precision: str) -> str:
    """Name of a candidate's file: `float.onnx`, `int8.tflite`, `float-openvino`."""
    stem = "int8" if precision == "int8" else "float"
    return f"{stem}{SUFFIXES[kind] or '-' + kind}"


def _made(kind: str, precision: str, name: str, path: Path, file_bytes: int) -> FileOutcome:
    return FileOutcome(name, kind, precision, "made", path=str(path), file_bytes=file_bytes)


def _outcome(kind: str, precision: str, name: str, make: Callable[[], FileOutcome]) -> FileOutcome:
    """One file that can't be made must not lose the others."""
    try:
        return make()
    except MissingExtraError as error:
        return FileOutcome(name, kind, precision, "missing", reason=str(error))
    except MobilenetsError as error:
        return FileOutcome(name, kind, precision, "failed", reason=str(error))


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
