"""A made-up report, and a small artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_reports import make_report
from described import write_onnx

__all__ = ["make_report", "onnx_file"]

NETWORK = {"name": "mobilenet_v2", "num_classes": 3, "width_mult": 0.35, "image_size": 16}


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that answers at once, said to be a small MobileNetV2, so that no network need be built and exported."""
    said = {"top1": "71.9", "top1 basis": "50 images"}
    return write_onnx(tmp_path_factory.mktemp("exported") / "model.onnx", network=NETWORK, provenance=said).path
