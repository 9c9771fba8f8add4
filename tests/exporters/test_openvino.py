from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mobilenets.errors import MissingExtraError, MobilenetsError
from mobilenets.exporters.onnx import to_onnx
from mobilenets.exporters.openvino import to_openvino
from mobilenets.exporters.verify import check_parity, network_predict, opened
from mobilenets.install import install_line
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

SMALL = Preprocessing(image_size=16)


def test_half_the_bytes_and_openvinos_own_tool_runs_it(
    tmp_path: Path,
    tiny: nn.Module,
    scans: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnx = to_onnx(tiny, SMALL)
    capfd.readouterr()
    monkeypatch.setattr("mobilenets.exporters.openvino.to_onnx", lambda *_: onnx)  # once for both
    whole, half = (to_openvino(tiny, SMALL, precision=precision) for precision in ("fp32", "fp16"))
    assert capfd.readouterr() == ("", "")
    assert len(half.payload["model.bin"]) < 0.7 * len(whole.payload["model.bin"])
    assert str(tmp_path.parent.parent).encode() not in whole.payload["model.xml"]
    classes = tuple("0123456789")
    with opened(half, "openvino", precision="fp16", preprocessing=SMALL, classes=classes, threads=1) as backend:
        check_parity(network_predict(tiny, SMALL), backend.predict, scans(SMALL), 2e-2)
    for name, content in whole.payload.items():
        (tmp_path / name).write_bytes(content)
    tool = [sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()"]
    arguments = ["-m", "model.xml", "-data_shape", "[1,16,16,3]", "-t", "1", "-hint", "none", "-nthreads", "1"]
    done = subprocess.run([*tool, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Throughput:" in done.stdout


def test_nothing_is_reported_to_google(tmp_path: Path) -> None:
    """Merely importing OpenVINO does so otherwise, and leaves its user's number in ~/intel."""
    program = (
        "import sys\nfrom torch import nn\n"
        "from mobilenets.exporters.openvino import to_openvino\n"
        "from mobilenets.preprocessing import Preprocessing\n"
        "model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()\n"
        "to_openvino(model, Preprocessing(image_size=8))\n"
        "assert 'openvino' in sys.modules\n"
        "assert not sys.modules['openvino_telemetry']\n"
    )
    # Its telemetry is off by itself where it sees a continuous integration.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()


def test_no_other_precision(tiny: nn.Module) -> None:
    with pytest.raises(MobilenetsError, match="fp32 or fp16, not bf16"):
        to_openvino(tiny, SMALL, precision="bf16")


def test_without_openvino(tiny: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "mobilenets.exporters.openvino.find_spec", lambda name: None if name == "openvino" else found(name)
    )
    with pytest.raises(MissingExtraError, match=re.escape(install_line("export"))):
        to_openvino(tiny, SMALL)
