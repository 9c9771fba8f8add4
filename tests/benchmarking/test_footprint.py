from importlib.util import find_spec

import numpy as np
import pytest

from mobilenets.benchmarking.process import peak_memory_mb
from mobilenets.benchmarking.worker import peak_resident_bytes
from mobilenets.errors import ExportError

pytestmark = pytest.mark.slow


def test_a_fresh_process_needs_tens_of_megabytes_whatever_this_one_holds(onnx_file):
    ballast = np.ones(330 * 2**20, dtype=np.uint8)
    assert peak_resident_bytes() > ballast.nbytes
    needed = peak_memory_mb(onnx_file)
    assert 20 < needed < 300
    if find_spec("openvino") is not None:
        assert peak_memory_mb(onnx_file, backend="openvino") > needed


def test_a_failing_process_says_why(tmp_path, onnx_file):
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="no such file"):
        peak_memory_mb(path)
    with pytest.raises(ExportError, match=r"can't be measured: .*litert"):
        peak_memory_mb(onnx_file, backend="litert")
    path.write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"model.onnx") as caught:
        peak_memory_mb(path)
    assert "\n" not in str(caught.value)
