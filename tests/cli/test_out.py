"""A wrong `--out` is told before images are loaded or weights read: here neither is there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

MISSING = "no-such-images"
VERBS = {
    "train": ["mobilenet_v2", "--data", MISSING, "--weights", "no-such-weights", "--out"],
    "train, published weights": ["mobilenet_v2", "--data", MISSING, "--weights", "imagenet", "--out"],
    "compare": ["--data", MISSING, "--out"],
    "doctor": [MISSING, "--out"],
    "shard": [MISSING, "--out"],
    "export": ["no-such-run", "--to", "onnx", "--data", MISSING, "--out"],
    "quantize": ["no-such-run", "--data", MISSING, "--out"],
    "deploy": ["no-such-run", "--data", MISSING, "--out"],
    "benchmark": ["no-such-file.onnx", "--data", MISSING, "--out"],
    "predict": ["no-such-file.onnx", MISSING, "--engine", "ray", "--out"],
}
FILES = ("export", "quantize")


@pytest.mark.parametrize("name", VERBS)
def test_below_a_file(name: str, call: Run, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    (tmp_path / "file").write_text("in the way")
    verb = name.partition(",")[0]
    out = Path("file") / ("net.onnx" if verb in FILES else "folder")
    done = call(verb, *VERBS[name], str(out))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{out} can't be written" in done.stderr
    assert "file is no folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", VERBS)
def test_of_the_wrong_kind(name: str, call: Run, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.onnx").mkdir()
    verb = name.partition(",")[0]
    out, said = ("folder.onnx", "is a folder") if verb in FILES else ("file", "is a file: give a folder")
    done = call(verb, *VERBS[name], out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{out} {said}" in done.stderr
