"""The command as its users start it: from a run folder to a file that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from mobilenets.artifact.container import read_artifact
from mobilenets.cli.deploy import main
from mobilenets.data.datasets import load_dataset
from mobilenets.errors import MobilenetsError
from mobilenets.workflows.deploy import _call
from mobilenets.workflows.train import train

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network trained on digits for an epoch."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train("mobilenet_v2", "digits", folder, recipe="quick", epochs=1, width_mult=0.35, image_size=16)
    return folder


@pytest.mark.slow
def test_a_run_becomes_a_file_that_answers(run: Run, trained: Path, tmp_path: Path) -> None:
    quick = ("--targets", "onnx", "--threads", "1", "--seconds", "0", "--against", "pytorch", "--max-images", "100")
    small = ("--calibration-images", "40", "--no-finetune", "--max-drop", "100")
    done = run("deploy", str(trained), "--data", "digits", "--out", "deployed", *quick, *small, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["decision"]["holds"]
    assert [file["status"] for file in report["files"]] == ["made", "made"]  # float and 8 bits
    assert {way["stored"] for way in report["ways"]} == {"fp32", "int8"}
    assert report["kept"]["drop"] <= 100
    assert {one["peer"] for one in report["advantages"]} == {"PyTorch eager"}
    assert report["command"].startswith("mobilenets deploy")
    assert (report["data"], report["test"]["data"]) == ("100 validation images of digits", "100 test images of digits")
    assert all(way["test_top1"] is not None for way in report["ways"])
    out = tmp_path / "deployed"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Top-1 on the 100 test images of digits, asked once, afterwards:" in page
    assert "The validation images decide; the test images had no part in it." in page
    kept = read_artifact(out / "model.onnx").description.settings
    assert kept is not None
    assert (kept.backend, kept.precision, kept.threads) == (report["kept"]["backend"], report["kept"]["precision"], 1)
    names = {path.name for path in out.iterdir()}
    assert names == {"model.onnx", "candidates", "report.json", "report.html", "latency-accuracy.png"}
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == report


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-drop", "-1"), "max_drop is points"),
        (("--targets", "onnx,coreml"), "there is no target 'coreml'"),
        (("--against", "tvm"), "there is no peer 'tvm'"),
        (("--targets", ""), "nothing to make"),
        (("--threads", "0"), "at least 1 thread, not 0"),
        (("--seconds", "-1"), "seconds"),
    ],
)
def test_bad_input_is_refused_before_anything_is_done(arguments: tuple[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match=said):
        main(["no-such-run", "--data", "digits", "--out", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(MobilenetsError, match="give a folder"):
        main(["no-such-run", "--data", "digits", "--out", str(tmp_path / "out")])


def test_the_call_names_data_in_memory() -> None:
    words = "mobilenets.deploy('runs/digits', 'digits', 'out', max_drop=1)"
    assert _call("runs/digits", load_dataset("digits"), "out", 1.0) == words
    assert _call("runs/digits", "digits", "out", 1.0) == words
