"""Making candidates: one that fails must not lose the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.deployment import candidates
from mobilenets.deployment.candidates import CandidateBuilder, file_name
from mobilenets.deployment.results import DeploymentReport
from mobilenets.errors import ExportError, MissingExtraError, QuantizationError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.images import evaluation_set
from mobilenets.exporters import onnx as onnx_module
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import Subject
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.quantization.config import QuantizeConfig
from mobilenets.quantization.results import QuantizationReport


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    network = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=16).eval()
    return Subject(network, tuple("0123456789"), Preprocessing(image_size=16), {})


@pytest.fixture(scope="module")
def images(subject: Subject, digits: Dataset) -> EvaluationSet:
    return evaluation_set(subject, digits, "test", max_images=40, progress=Silent().update)


def builder(subject: Subject, images: EvaluationSet, folder: Path) -> CandidateBuilder:
    digits, config = load_dataset("digits"), QuantizeConfig(folder, "onnx")
    return CandidateBuilder(subject, digits, images, folder, "runs/digits", config, 1, Silent())


@pytest.mark.slow
def test_what_is_missing_or_fails_is_reported_and_the_rest_is_made(
    subject: Subject, images: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = candidates.verify_export

    def verify_export(of: Any, target: Any, *rest: Any) -> Any:
        if target.to == "litert":
            raise MissingExtraError("needs litert: pip install 'mobilenets[litert]'")
        if target.to == "openvino":
            raise ExportError("the file's logits differ")
        return real(of, target, *rest)

    monkeypatch.setattr(candidates, "verify_export", verify_export)
    outcomes, searches = builder(subject, images, tmp_path).make(("litert", "openvino", "onnx"), int8=False)
    assert [(one.name, one.status) for one in outcomes] == [
        ("float.tflite", "missing"),
        ("float-openvino", "failed"),
        ("float.onnx", "made"),
    ]
    assert "pip install" in outcomes[0].reason
    assert "differ" in outcomes[1].reason
    assert Path(outcomes[2].path).stat().st_size == outcomes[2].file_bytes
    assert searches == ()


def test_a_refusal_is_an_outcome_with_its_ladder(
    subject: Subject,
    images: EvaluationSet,
    report: DeploymentReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "int8.onnx").write_bytes(b"of an earlier run")

    def refuse(
        of: Subject, dataset: Dataset, config: QuantizeConfig, *rest: object, **words: object
    ) -> QuantizationReport:
        if config.kind == "litert":
            raise QuantizationError("the quantizer can't")
        (ladder,) = report.quantizations
        return QuantizationReport(**{**vars(ladder), "chosen": None})

    monkeypatch.setattr(candidates, "quantize_candidate", refuse)
    monkeypatch.setattr(QuantizeConfig, "check", lambda self: None)
    monkeypatch.setattr(CandidateBuilder, "_exported", lambda self, kind, name: report.files[0])
    outcomes, searches = builder(subject, images, tmp_path).make(("onnx", "litert"), int8=True)
    refused, failed = outcomes[2:]
    assert (refused.status, failed.status) == ("refused", "failed")
    assert "fast bias correction, lost 0.50" in refused.reason
    assert failed.reason == "the quantizer can't"
    assert len(searches) == 1
    assert list(tmp_path.iterdir()) == []  # not even the 8-bit file of an earlier run


@pytest.mark.slow
def test_each_format_is_exported_once_and_nothing_is_timed_while_files_are_made(
    subject: Subject, images: EvaluationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    exports: list[str] = []
    real = onnx_module.to_onnx

    def to_onnx(*arguments: Any, **options: Any) -> Exported:
        exports.append("onnx")
        return real(*arguments, **options)

    def time_rounds(*arguments: object, **options: object) -> None:
        raise AssertionError("a deployment's files are timed by its survey alone")

    monkeypatch.setattr(onnx_module, "to_onnx", to_onnx)
    monkeypatch.setattr("mobilenets.quantization.quantize.time_rounds", time_rounds)
    making = builder(subject, images, tmp_path)
    config = replace(making.config, max_drop=100.0, calibration_images=20, finetune=False)
    outcomes, (search,) = replace(making, config=config).make(("onnx",), int8=True)
    assert [(one.name, one.status) for one in outcomes] == [("float.onnx", "made"), ("int8.onnx", "made")]
    assert exports == ["onnx"]
    assert search.runtimes == ()
    assert search.float_bytes == outcomes[0].file_bytes
    assert {path.name for path in tmp_path.iterdir()} == {"float.onnx", "int8.onnx"}


def test_names_of_files() -> None:
    assert [file_name(kind, "fp32") for kind in candidates.TARGETS] == [
        "float.onnx",
        "float-openvino",
        "float.tflite",
        "float.pte",
    ]
    assert file_name("litert", "int8") == "int8.tflite"
