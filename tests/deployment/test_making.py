"""Making candidates: one that fails must not lose the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.deployment import candidates
from mobilenets.deployment.candidates import Workshop, file_name
from mobilenets.deployment.results import DeploymentReport
from mobilenets.errors import ExportError, MissingExtraError, QuantizationError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.images import evaluation_set
from mobilenets.exporters.describe import Subject
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.quantization.config import Order
from mobilenets.quantization.results import QuantizationReport


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    network = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=16).eval()
    return Subject(network, tuple("0123456789"), Preprocessing(image_size=16), {})


@pytest.fixture(scope="module")
def images(subject: Subject, digits: Dataset) -> EvaluationSet:
    return evaluation_set(subject, digits, "test", max_images=40, progress=Silent().update)


def workshop(subject: Subject, images: EvaluationSet, folder: Path) -> Workshop:
    digits = load_dataset("digits")
    return Workshop(subject, digits, images, folder, "runs/digits", 1, {}, Silent())


def test_what_is_missing_or_fails_is_told_and_the_rest_is_made(
    subject: Subject, images: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = candidates.prove

    def prove(of: Any, target: Any, *rest: Any) -> Any:
        if target.to == "litert":
            raise MissingExtraError("needs litert: pip install 'mobilenets[litert]'")
        if target.to == "openvino":
            raise ExportError("the file's logits differ")
        return real(of, target, *rest)

    monkeypatch.setattr(candidates, "prove", prove)
    outcomes, ladders = workshop(subject, images, tmp_path).make(("litert", "openvino", "onnx"), int8=False)
    assert [(one.name, one.status) for one in outcomes] == [
        ("float.tflite", "missing"),
        ("float-openvino", "failed"),
        ("float.onnx", "made"),
    ]
    assert "pip install" in outcomes[0].reason
    assert "differ" in outcomes[1].reason
    assert Path(outcomes[2].path).stat().st_size == outcomes[2].file_bytes
    assert ladders == ()


def test_a_refusal_is_an_outcome_with_its_ladder(
    subject: Subject,
    images: EvaluationSet,
    report: DeploymentReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "int8.onnx").write_bytes(b"of an earlier run")
    left = tmp_path / "int8-float32.onnx"

    def refuse(of: Subject, dataset: Dataset, order: Order, *rest: object, **words: str) -> QuantizationReport:
        if order.kind == "litert":
            raise QuantizationError("the quantizer can't")
        left.write_bytes(b"float")
        (ladder,) = report.quantizations
        return QuantizationReport(**{**vars(ladder), "chosen": None, "out": str(left)})

    monkeypatch.setattr(candidates, "quantize_loaded", refuse)
    monkeypatch.setattr(Order, "check", lambda self: None)
    monkeypatch.setattr(Workshop, "_exported", lambda self, kind, name: report.files[0])
    outcomes, ladders = workshop(subject, images, tmp_path).make(("onnx", "litert"), int8=True)
    refused, failed = outcomes[2:]
    assert (refused.status, failed.status) == ("refused", "failed")
    assert "fast bias correction, lost 0.50" in refused.reason
    assert failed.reason == "the quantizer can't"
    assert len(ladders) == 1
    assert list(tmp_path.iterdir()) == []  # neither a second float file nor the 8-bit one of an earlier run


def test_names_of_files() -> None:
    assert [file_name(kind, "fp32") for kind in candidates.TARGETS] == [
        "float.onnx",
        "float-openvino",
        "float.tflite",
        "float.pte",
    ]
    assert file_name("litert", "int8") == "int8.tflite"
