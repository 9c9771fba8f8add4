"""What quantize, export and deploy choose is chosen on validation images, whatever the test images say.

The network is one whose plain 8-bit form fails. Were it scored on test images whose labels are shuffled, by which float
and 8 bits are both no better than guessing, nothing would seem lost: the 8-bit file would be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow, Measurement
from mobilenets.data.datasets import Dataset
from mobilenets.data.held_out import cut_validation, validation_record
from mobilenets.data.sources import ImageSplit
from mobilenets.deployment.results import DeploymentReport
from mobilenets.errors import QuantizationError
from mobilenets.evaluation.evaluation_set import readings
from mobilenets.evaluation.results import Latency
from mobilenets.exporters.export import ExportReport
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.quantization.results import QuantizationReport
from mobilenets.runtime.backend import choices
from mobilenets.workflows.deploy import deploy
from mobilenets.workflows.export import export
from mobilenets.workflows.quantize import quantize

pytestmark = pytest.mark.slow

pytest.importorskip("nncf")
SMALL = {"calibration_images": 64, "finetune": False, "max_drop": 5.0}


@pytest.fixture(autouse=True)
def _one_rung_and_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing rescues the plain file, and how fast files are is fixed: 8 bits win whenever they hold."""
    from mobilenets.quantization import onnx

    monkeypatch.setattr(onnx, "PTQ_STEPS", onnx.PTQ_STEPS[:1])
    monkeypatch.setattr(onnx, "float_layer_steps", lambda ranked: iter(()))
    monkeypatch.setattr("mobilenets.quantization.quantize.ROUNDS", 3)
    monkeypatch.setattr("mobilenets.quantization.quantize.SECONDS", 0.1)
    monkeypatch.setattr("mobilenets.deployment.measure.survey", _survey)


def _survey(paths: Sequence[Path], **settings: object) -> BenchmarkReport:
    rows = []
    for path in paths:
        for choice in choices(read_artifact(path)):
            milliseconds = 1.0 + ("int8" not in path.name) + 0.1 * len(rows)
            latency = Latency(milliseconds, milliseconds, 0.0, 10)
            label = f"{path.name}, {choice.backend} {choice.precision}"
            measured = (Measurement(1, latency, 1e3 / milliseconds, 1.0),)
            rows.append(
                BenchmarkRow(
                    label, str(path), "artifact", choice.backend, choice.precision, 1, False, "net", 1000, 80.0, 300.0,
                    measured,
                )
            )  # fmt: skip
    return BenchmarkReport("2026-01-01T00:00:00+00:00", {}, {}, tuple(rows), (), (), ())


@pytest.fixture
def run(spoiled: SavedNetwork, digits: Dataset, tmp_path: Path) -> Path:
    """A run folder that says how its validation images were cut."""
    record = {"data_digest": digits.digest, **validation_record(cut_validation(digits, 0.2))}
    folder = tmp_path / "run"
    folder.mkdir()
    save_network(folder, replace(spoiled, provenance={**spoiled.provenance, **record}))
    return folder


@pytest.fixture(scope="module")
def shuffled(digits: Dataset) -> Dataset:
    """The same images, of which those to test on say nothing true."""
    labels = np.random.default_rng(0).permutation(digits.test.labels)
    return replace(digits, test=ImageSplit(digits.test.sources, labels))


def test_no_rung_and_no_threshold_is_chosen_by_test_labels(
    run: Path, digits: Dataset, shuffled: Dataset, tmp_path: Path
) -> None:
    def chosen(data: Dataset, name: str) -> tuple[QuantizationReport, list[Any]]:
        report = quantize(run, data, tmp_path / f"{name}.onnx", threads=1, **SMALL)  # type: ignore[arg-type]
        confidence = read_artifact(Path(report.out)).description.confidence
        assert confidence is not None
        return report, [report.chosen, report.rungs[0].drop, confidence.temperature, confidence.threshold]

    told, truly = chosen(digits, "a")
    misled, falsely = chosen(shuffled, "b")
    assert truly == falsely
    assert (told.chosen, told.validated, told.report_images) == (None, True, len(digits.test))
    assert told.float_top1.report is not None
    assert misled.float_top1.report is not None
    assert misled.float_top1.report < 30 < told.float_top1.report  # by which plain would have held
    assert [reading.command for reading in readings(run)] == ["quantize", "quantize"]


def test_the_threshold_of_an_export_is_not_found_on_test_labels(
    run: Path, digits: Dataset, shuffled: Dataset, tmp_path: Path
) -> None:
    def chosen(data: Dataset) -> tuple[ExportReport, list[float]]:
        report = export(run, tmp_path / "float.onnx", to="onnx", data=data, threads=1)
        confidence = report.artifact.description.confidence
        assert confidence is not None
        return report, [confidence.temperature, confidence.threshold]

    told, truly = chosen(digits)
    misled, falsely = chosen(shuffled)
    assert truly == falsely
    assert told.calibration is not None
    assert misled.calibration is not None
    assert misled.calibration.ece_after > 10 + told.calibration.ece_after
    basis = told.calibration.confidence.basis
    assert "found on 287 validation images of digits; on 359 test images of digits" in basis
    assert (told.asked, told.parity.images) == ("359 test images of digits", 359)
    assert told.artifact.description.provenance["golden_images"] == "4 of 287 validation images of digits"
    assert [reading.command for reading in readings(run)] == ["export", "export"]


def test_no_file_is_kept_by_test_labels(run: Path, digits: Dataset, shuffled: Dataset, tmp_path: Path) -> None:
    def chosen(data: Dataset) -> tuple[DeploymentReport, list[Any]]:
        report = deploy(run, data, tmp_path / "out", targets=("onnx",), against=(), threads=(1,), seconds=0, **SMALL)  # type: ignore[arg-type]
        confidence = read_artifact(Path(report.path)).description.confidence
        assert confidence is not None
        seen = [(way.label, way.top1, way.drop) for way in report.ways]
        return report, [report.decision, seen, confidence.temperature, confidence.threshold]

    told, truly = chosen(digits)
    misled, falsely = chosen(shuffled)
    assert truly == falsely
    assert told.kept.stored == "fp32"
    assert told.files[1].status == "refused"
    assert told.test is not None
    assert misled.test is not None
    assert misled.test.float_top1 < 30 < told.test.float_top1
    assert (told.data, told.test.data) == ("287 validation images of digits", "359 test images of digits")
    assert told.kept.test_top1 == pytest.approx(told.test.float_top1)
    provenance = read_artifact(Path(misled.path)).description.provenance
    assert provenance["top1 basis"] == "359 test images of digits"
    assert [reading.command for reading in readings(run)] == ["deploy", "deploy"]  # the ladders add none


def test_the_test_images_are_not_read_before_a_rung_is_chosen(
    run: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*ladder: object, **words: object) -> None:
        raise QuantizationError("no ladder")

    monkeypatch.setattr("mobilenets.quantization.quantize.search_ladder", fail)
    with pytest.raises(QuantizationError, match="no ladder"):
        quantize(run, digits, tmp_path / "a.onnx", **SMALL)  # type: ignore[arg-type]
    assert readings(run) == ()


def test_without_known_validation_images_the_test_images_decide_and_a_note_says_so(
    run_folder: Path, shuffled: Dataset, tmp_path: Path
) -> None:
    before = len(readings(run_folder))
    report = deploy(
        run_folder, shuffled, tmp_path / "out", targets=("onnx",), against=(), threads=(1,), seconds=0, int8=False
    )  # type: ignore[arg-type]
    said = "test images decide, not validation images: the network does not say which images it was validated on"
    assert any(note.startswith(said) for note in report.notes)
    assert (report.test, report.data, report.kept.test_top1) == (None, "359 test images of digits", None)
    assert [reading.command for reading in readings(run_folder)[before:]] == ["deploy"]
