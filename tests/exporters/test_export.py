from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from mobilenets.artifact.container import read_artifact
from mobilenets.errors import ArtifactError, DataError, ExportError, MobilenetsError, RunError
from mobilenets.exporters import onnx as onnx_module
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import check_place
from mobilenets.models.saved import SavedNetwork
from mobilenets.preprocessing import Preprocessing
from mobilenets.report.export import export_text
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden
from mobilenets.workflows.export import export

SMALL = Preprocessing(image_size=16)


@pytest.fixture(scope="module")
def saved(tiny: nn.Module) -> SavedNetwork:
    """A network of a few layers, so that translating it takes no time."""
    return SavedNetwork(tiny, tuple("0123456789"), SMALL, {"torch": "1.0", "data": "mine"})


@pytest.mark.slow
def test_an_export_is_verified_on_the_test_split(saved: SavedNetwork, tmp_path: Path) -> None:
    out = tmp_path / "new" / "digits.onnx"
    report = export(saved, out, to="onnx", data="digits", threads=1)
    assert report.parity.holds
    assert report.parity.max_difference < 1e-4
    assert report.parity.top1_agreement == 100
    assert report.parity.images > 300
    assert report.asked == f"{report.parity.images} test images of digits"
    assert report.network_top1 == report.file_top1 is not None
    assert report.golden_difference <= 1e-6
    described = read_artifact(out).description
    assert described.golden.images.shape == (4, 16, 16, 3)
    said = described.provenance
    assert (said["trained_with_torch"], said["data"]) == ("1.0", "mine")
    assert said["torch"] != "1.0"
    assert said["golden_images"] == f"4 of {report.asked}"
    assert float(said["top1"]) == pytest.approx(report.file_top1, abs=1e-4)
    assert said["top1 basis"] == report.asked
    assert described.confidence is not None
    assert described.confidence.basis == report.calibration.confidence.basis  # type: ignore[union-attr]
    assert repr(report).startswith("<ExportReport: digits.onnx: onnx, fp32, ")
    assert len(repr(report)) < 200
    assert "<table" not in report._repr_html_()
    text, record = export_text(report), json.loads(json.dumps(report.to_dict()))
    assert f"accuracy    network {report.network_top1:.2f} %, file {report.file_top1:.2f} %" in text
    assert record["file_bytes"] == out.stat().st_size
    assert record["calibration"]["confidence"]["temperature"] == described.confidence.temperature


@pytest.mark.slow
def test_without_data_it_is_verified_on_synthetic_images(saved: SavedNetwork, tmp_path: Path) -> None:
    report = export(saved, tmp_path / "digits", to="openvino", precision="fp16", threads=1)
    assert (report.asked, report.network_top1, report.calibration) == ("32 synthetic images", None, None)
    assert report.backend == "openvino"
    described = read_artifact(tmp_path / "digits").description
    assert (described.precision, described.confidence) == ("fp16", None)
    assert described.provenance["golden_images"] == "4 of synthetic images"
    assert "top1" not in described.provenance
    assert any("synthetic images only" in note for note in report.notes)
    assert "accuracy" not in export_text(report)


def test_a_few_images_verify_it_but_calibrate_nothing(saved: SavedNetwork, tmp_path: Path) -> None:
    report = export(saved, tmp_path / "few.tflite", to="litert", data="digits", max_images=30, threads=1)
    assert report.parity.images == pytest.approx(30, abs=5)
    assert report.calibration is None
    assert any("too few to calibrate" in note for note in report.notes)


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_kept_apart_and_the_layer_is_named(
    saved: SavedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_module.to_onnx

    def wrong(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
        (content,) = right(model, preprocessing, precision=precision).payload.values()
        file = onnx.load_from_string(content)
        for node in file.graph.node:
            if node.op_type == "HardSwish":
                node.op_type = "Relu"
        return Exported({"model.onnx": file.SerializeToString()}, dynamic_batch=True)

    monkeypatch.setattr(onnx_module, "to_onnx", wrong)
    out = tmp_path / "digits.onnx"
    out.write_bytes(b"an earlier file")
    with pytest.raises(ExportError) as caught:
        export(saved, out, to="onnx", threads=1)
    message = str(caught.value)
    assert "the first layer to differ is 2 (Hardswish)" in message
    assert "\n" not in message
    assert caught.value.exit_code == 1
    assert out.read_bytes() == b"an earlier file"
    rejected = read_artifact(tmp_path / "digits.rejected.onnx")
    assert str(rejected.path) in message
    # Whoever opens it nevertheless is told.
    with pytest.raises(ArtifactError, match="no longer hold"):
        check_golden(rejected, open_backend(rejected, threads=1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"to": "onx"}, MobilenetsError, "did you mean onnx"),
        ({"out": "model.tflite"}, ArtifactError, "end in .onnx"),
        ({"precision": "fp8"}, MobilenetsError, "not 'fp8'"),
        ({"data": "nowhere"}, DataError, "there is no 'nowhere'"),
        ({"max_images": 0, "data": "digits"}, DataError, "at least 1"),
        ({"min_confidence_accuracy": 95, "data": "digits"}, DataError, "from 0 to below 1, not 95"),
        ({"run": "nothing"}, RunError, "no run folder"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(
    run: Path, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"run": run, "to": "onnx", "out": "model.onnx", **arguments}
    place = tmp_path / given.pop("out")
    with pytest.raises(error, match=message):
        export(given.pop("run"), place, **given)
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_classes(tmp_path: Path, shaken: Callable[..., Any]) -> None:
    model = shaken("mobilenet_v1", num_classes=2, image_size=16)
    saved = SavedNetwork(model, ("cat", "dog"), Preprocessing(image_size=16), {})
    with pytest.raises(DataError, match=r"digits has classes 0, 1, .*\(10\); the network answers cat, dog"):
        export(saved, tmp_path / "model.onnx", to="onnx", data="digits")


def test_places_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder: give the file's whole name"):
        check_place(tmp_path, folder=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="is no folder"):
        check_place(tmp_path / "file" / "model.onnx", folder=False)
    with pytest.raises(RunError, match="holds other files"):
        check_place(tmp_path, folder=True)
    for nameless in (".", "/", ".."):
        with pytest.raises(RunError, match="is no name"):
            check_place(Path(nameless), folder=True)
    check_place(tmp_path / "new" / "deep" / "model.onnx", folder=False)
    (tmp_path / "empty").mkdir()
    check_place(tmp_path / "empty", folder=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(RunError, match="no permission"):
        check_place(tmp_path / "locked" / "model.onnx", folder=False)


@pytest.mark.slow
def test_a_network_that_diverged(tmp_path: Path, shaken: Callable[..., Any]) -> None:
    model = shaken("mobilenet_v1", width_mult=0.1, image_size=8)
    model.classifier.bias.data.fill_(np.nan)
    saved = SavedNetwork(model, tuple("0123456789"), Preprocessing(image_size=8), {})
    with pytest.raises(ExportError, match="train it again"):
        export(saved, tmp_path / "model.onnx", to="onnx")
    assert list(tmp_path.iterdir()) == []
