import numpy as np
import pytest

from mobilenets.benchmarking.footprint import peak_memory_mb
from mobilenets.benchmarking.resident import peak_resident_bytes
from mobilenets.errors import ExportError


def test_a_fresh_process_needs_tens_of_megabytes_whatever_this_one_holds(onnx_file):
    ballast = np.ones(400 * 2**20, dtype=np.uint8)
    assert peak_resident_bytes() > ballast.nbytes
    assert 20 < peak_memory_mb(onnx_file) < 300


def test_a_backend_can_be_named(onnx_file):
    pytest.importorskip("openvino")
    assert peak_memory_mb(onnx_file, backend="openvino") > peak_memory_mb(onnx_file, backend="onnxruntime")
    with pytest.raises(ExportError, match=r"can't be measured: .*litert"):
        peak_memory_mb(onnx_file, backend="litert")


def test_a_failing_process_says_why(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="no such file"):
        peak_memory_mb(path)
    path.write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"model.onnx") as caught:
        peak_memory_mb(path)
    assert "\n" not in str(caught.value)
