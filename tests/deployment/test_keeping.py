"""What is kept runs as it was found to run best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobilenets.artifact.container import read_artifact, write_artifact
from mobilenets.artifact.description import RuntimeSettings
from mobilenets.deployment.candidates import keep
from mobilenets.deployment.results import Way
from mobilenets.runtime.backend import open_backend

MakeWay = Callable[..., Way]


@pytest.mark.slow
def test_the_kept_file_carries_its_settings_and_answers_the_same(onnx_file: Path, way: MakeWay, tmp_path: Path) -> None:
    found = replace(way("a", 1.0, threads=1), path=str(onnx_file))
    artifact = keep(found, tmp_path / "out", {"deployed": "here"})
    assert artifact.path == tmp_path / "out" / "model.onnx"
    assert artifact.description.settings == RuntimeSettings("onnxruntime", "fp32", 1)
    assert artifact.description.provenance["deployed"] == "here"
    backend = open_backend(artifact)
    assert (backend.name, backend.precision, backend.threads) == ("onnxruntime", "fp32", 1)
    candidate = read_artifact(onnx_file)
    images = candidate.description.golden.images
    np.testing.assert_array_equal(backend.predict(images), open_backend(candidate, threads=1).predict(images))


def test_a_former_kept_file_goes_and_others_stay(onnx_file: Path, way: MakeWay, tmp_path: Path) -> None:
    candidate = read_artifact(onnx_file)
    settings = RuntimeSettings("litert", "fp32", 1)
    former = replace(candidate.description, kind="litert", settings=settings)
    write_artifact(tmp_path / "model.tflite", {"model.tflite": b"weights"}, former)
    (tmp_path / "model.pte").write_bytes(b"a user's own")
    keep(replace(way("a", 1.0), path=str(onnx_file)), tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.pte"]


def test_a_lower_precision_keeps_the_golden_answers_within_the_bound_measured_for_it(
    onnx_file: Path, way: MakeWay, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    from mobilenets.runtime.backend import choices

    if not any(one.precision == "bf16" for one in choices(read_artifact(onnx_file))):
        pytest.skip("this processor has no bfloat16")
    found = replace(way("a", 1.0, precision="bf16"), path=str(onnx_file), backend="openvino")
    artifact = keep(found, tmp_path, {})
    before, after = read_artifact(onnx_file).description.golden, artifact.description.golden
    np.testing.assert_array_equal(after.logits, before.logits)
    assert after.bounds == before.bounds
    assert open_backend(artifact).precision == "bf16"
