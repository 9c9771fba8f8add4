"""Making the files to choose from: a float one in every format, and 8-bit ones; what fails is told, not raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenets.artifact.container import SUFFIXES, read_artifact
from mobilenets.compression.order import Order
from mobilenets.compression.quantizing import quantize_loaded
from mobilenets.compression.results import QuantizationReport
from mobilenets.data.datasets import Dataset
from mobilenets.deployment.choosing import points
from mobilenets.deployment.results import FileOutcome
from mobilenets.errors import MissingExtraError, MobilenetsError
from mobilenets.exporting.describe import Subject
from mobilenets.exporting.export import deliver, prove
from mobilenets.exporting.proof import Questions
from mobilenets.exporting.target import Target
from mobilenets.exporting.watcher import Watcher

TARGETS = ("onnx", "openvino", "litert", "executorch")
QUANTIZABLE = ("onnx", "litert")


@dataclass(frozen=True)
class Workshop:
    """What all files are made of.

    Attributes:
        subject: the network.
        dataset: its images, as `exporting.deciding.load_deciding` gives them.
        questions: images that decide, on which every float file is proven.
        folder: where the files go.
        run: where the network came from, in words.
        threads: for the runtimes that are asked; None for every usable core.
        ordering: the attributes of every `Order` but for `out` and `kind`.
        watcher: told of progress.
    """

    subject: Subject
    dataset: Dataset
    questions: Questions
    folder: Path
    run: str
    threads: int | None
    ordering: dict[str, Any]
    watcher: Watcher

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
            self.watcher.message(f"[{number}/{len(steps)}] {name}")
            if precision == "int8":
                outcome, ladder = self._quantized(kind, name)
                ladders += [ladder] if ladder is not None else []
            else:
                outcome = _told(kind, precision, name, lambda kind=kind, name=name: self._exported(kind, name))  # type: ignore[misc]
            outcomes.append(outcome)
            if outcome.reason:
                self.watcher.message(f"  {outcome.status}: {outcome.reason}")
        return tuple(outcomes), tuple(ladders)

    def _exported(self, kind: str, name: str) -> FileOutcome:
        target = Target(kind, "fp32", self.folder / name, self.threads)
        target.check()
        report = deliver(self.subject, target, prove(self.subject, target, self.questions, self.watcher), ())
        return _made(kind, "fp32", name, report.artifact.path, report.artifact.file_bytes)

    def _quantized(self, kind: str, name: str) -> tuple[FileOutcome, QuantizationReport | None]:
        climbed: list[QuantizationReport] = []

        def make() -> FileOutcome:
            order = Order(self.folder / name, kind, **self.ordering)
            order.check()
            # The test images are not asked here: which file is kept is still to be chosen.
            report = quantize_loaded(self.subject, self.dataset, order, self.watcher, run=self.run)
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
