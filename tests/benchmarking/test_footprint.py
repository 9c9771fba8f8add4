import subprocess
import sys

import numpy as np
import pytest

from mobilenets.benchmarking.footprint import peak_memory_mb, peak_resident_bytes
from mobilenets.errors import ExportError


def test_a_fresh_process_needs_tens_of_megabytes_whatever_this_one_holds(onnx_file):
    ballast = np.ones(400 * 2**20, dtype=np.uint8)
    assert peak_resident_bytes() > ballast.nbytes
    assert 20 < peak_memory_mb(onnx_file) < 300


def test_the_process_does_not_import_torch(onnx_file):
    program = (
        "import sys; from mobilenets.benchmarking import footprint, latency; from mobilenets.runtime import session; from pathlib import Path; "
        f"footprint._answer_one_image(Path({str(onnx_file)!r}), 1); "
        "assert not {'torch', 'onnx', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_failing_process_says_why(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="no file"):
        peak_memory_mb(path)
    path.write_bytes(b"damaged")
    with pytest.raises(ExportError, match=r"failed: .*model.onnx can't be loaded") as caught:
        peak_memory_mb(path)
    assert "\n" not in str(caught.value)
