"""`evaluate` where only the core install is."""

from __future__ import annotations

from pathlib import Path

from described import write_onnx

from core_install import core_only

from .conftest import Run


def test_scoring_a_file_names_what_it_needs_and_not_pytorch(run: Run, tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx")
    done = run("evaluate", "net.onnx", "--data", "digits", **core_only(tmp_path / "core"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mobilenets: scoring needs pydantic, scikit-learn and scipy: pip install pydantic scikit-learn scipy\n"
    )
