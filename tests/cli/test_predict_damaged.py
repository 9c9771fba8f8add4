"""`predict` with a file that is no whole artifact: one line says what is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from described import colour_onnx, describe, write_onnx

from mobilenets.artifact.container import write_artifact
from mobilenets.artifact.golden import GoldenPairs

from .conftest import Run

GOOGLE = Path(__file__).parents[2] / "../shared/data/google/mobilenet_v1_0.25_128_quant.tflite"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx").path


def _damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)


def _golden_lost(path: Path) -> None:
    golden = describe().golden
    write_onnx(path, golden=GoldenPairs(golden.images, golden.logits + np.float32(1), 0.01))


def _run_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "model.json").write_text("{}")


def _lacks_bin(path: Path) -> None:
    path.unlink()
    write_artifact(path.with_suffix(""), {"model.xml": b"<net/>", "model.bin": b"x"}, describe("openvino"))
    path.with_suffix("").rename(path)
    (path / "model.bin").unlink()


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (Path.unlink, "no such file"),
        (lambda path: path.write_bytes(b""), "empty file (0 bytes)"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "truncated"),
        (_damaged, "damaged"),
        (lambda path: path.write_bytes(colour_onnx()), "not written by mobilenets"),
        (lambda path: path.write_text("a letter"), "no ONNX file"),
        (_golden_lost, "its golden pairs no longer hold"),
        (_run_folder, "it is a run folder: export it first"),
        (_lacks_bin, "model.bin: can't be read"),
    ],
)
def test_a_file_that_is_no_whole_artifact(
    call: Run, net: Path, photos: Path, spoiled: Callable[[Path], object], said: str
) -> None:
    spoiled(net)
    done = call("predict", "net.onnx", "photos")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mobilenets: net.onnx")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not GOOGLE.is_file(), reason="Google's files are not here")
def test_googles_own_file(call: Run, tmp_path: Path, photos: Path) -> None:
    shutil.copy(GOOGLE, tmp_path / "google.tflite")
    done = call("predict", "google.tflite", "photos")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "google.tflite: truncated, or not written by mobilenets" in done.stderr
