"""`mobilenets benchmark` as its users start it, with and without PyTorch."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from described import write_onnx
from PIL import Image

from core_install import core_only
from mobilenets.data.datasets import load_dataset
from mobilenets.errors import DataError
from mobilenets.install import install_line

pytestmark = pytest.mark.slow

QUICK = ("--backends", "onnxruntime", "--threads", "1", "--seconds", "0", "--starts", "1", "--batch-sizes", "1")


@pytest.fixture
def onnx_file(tmp_path):
    """Which of red, green and blue a picture has most of."""
    return write_onnx(tmp_path / "model.onnx").path


def test_a_core_install_measures_and_says_what_the_picture_needs(run, onnx_file, tmp_path):
    core = core_only(tmp_path / "core")
    done = run("benchmark", "model.onnx", *QUICK, "--json", "--out", "measured", **core)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["label"] for row in report["rows"]] == ["model.onnx, ONNX Runtime fp32, 1 thread"]
    assert report["rows"][0]["measurements"][0]["latency"]["median_ms"] > 0
    assert json.loads((tmp_path / "measured" / "benchmark.json").read_text()) == report
    assert f"is not drawn: the picture needs matplotlib: {install_line('train')}" in done.stderr
    assert not (tmp_path / "measured" / "benchmark.png").exists()


def test_a_picture_asked_for_by_name_is_missed_before_measuring(call, onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call("benchmark", str(onnx_file), *QUICK, "--plot", "b.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mobilenets: the picture needs matplotlib: {install_line('train')}\n"


def test_pytorch_as_a_peer_needs_pytorch(call, onnx_file, monkeypatch):
    monkeypatch.setattr("mobilenets.benchmarking.candidates.find_spec", lambda name: None)
    done = call("benchmark", str(onnx_file), *QUICK, "--against", "pytorch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mobilenets: --against pytorch needs torch: {install_line('train')}\n"


def test_a_peer_that_can_not_be_measured_loses_no_other_figure(call, onnx_file, tmp_path):
    (tmp_path / "theirs.onnx").write_bytes(b"no model")
    done = call("benchmark", str(onnx_file), *QUICK, "--against", "theirs.onnx")
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("--out DIR keeps these figures as JSON and a picture\n")
    assert "fastest is model.onnx, ONNX Runtime fp32, 1 thread" in done.stdout
    assert "failed: theirs.onnx, ONNX Runtime with its defaults, 1 thread: " in done.stdout.replace("\n", " ")


def test_tables_and_picture(call, onnx_file, tmp_path):
    done = call("benchmark", str(onnx_file), *QUICK, "--against", "onnxruntime", "--out", "measured")
    assert done.returncode == 0, done.stderr
    for words in ("batch 1", "Cold start", "with its defaults", "fastest is model.onnx, ONNX Runtime fp32, 1 thread"):
        assert words in done.stdout
    assert "--out DIR" not in done.stderr
    assert (tmp_path / "measured" / "benchmark.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.onnx",), "missing.onnx: no such file; 'mobilenets export' makes one"),
        (("FILE", "--backends", "tensorrt"), "no backend tensorrt; there are onnxruntime, openvino"),
        (("FILE", "--batch-sizes", "0"), "batch sizes are whole numbers from 1"),
        (("FILE", "--threads", "0"), "a runtime needs at least 1 thread, not 0"),
        (("FILE", "--against", "tensorflow"), "a peer is pytorch, onnxruntime, openvino"),
        (("FILE", "--seconds", "-1"), "seconds of a benchmark are from 0 to 86,400"),
        (("FILE", "--thread", "1"), "Unrecognized"),
        (("FILE", "--plot", "b.jpg"), "b.jpg: the picture is a PNG: give b.png"),
        (("FILE", "--plot", "."), ".: the picture is a file: give benchmark.png"),
        (("FILE", "--plot", ".."), "..: the picture is a file: give ../benchmark.png"),
        (("FILE", "--out", "FILE"), "model.onnx is a file: give a folder"),
        (("FILE", "--plot", "FILE/b.png"), "model.onnx is no folder"),
    ],
)
def test_bad_input_is_one_line(call, onnx_file, arguments, message):
    done = call("benchmark", *(one.replace("FILE", str(onnx_file)) for one in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mobilenets: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_data_of_other_classes_is_refused_before_measuring(call, onnx_file):
    done = call("benchmark", str(onnx_file), *QUICK, "--data", "digits")
    assert (done.returncode, done.stdout) == (2, "")
    assert "digits has other classes" in done.stderr


@pytest.fixture
def colours(tmp_path):
    """A file of three classes, and beside it `photos` of them."""
    classes = tmp_path / "classes.onnx"
    write_onnx(classes, classes=("blue", "green", "red"))
    for name, colour in (("red", (250, 9, 9)), ("green", (9, 250, 9)), ("blue", (9, 9, 250))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), tuple(value - number for value in colour)).save(
                tmp_path / "photos" / name / f"{number}.png"
            )
    return classes


def never(*arguments, **options):
    raise AssertionError("measured")


def test_accuracy_is_that_of_the_file_on_the_test_images(call, colours):
    done = call("benchmark", str(colours), *QUICK, "--data", "photos", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    # The file's first answer is the strength of red, which here stands for blue: only green is right.
    test = load_dataset("photos").test.labels
    assert row["top1"] == pytest.approx(100 * np.mean(test == 1))
    assert row["top1_basis"].endswith(" test images of photos")


def test_images_that_can_not_be_read_are_told_before_measuring(call, colours, tmp_path, monkeypatch):
    for path in (tmp_path / "photos" / "red").iterdir():
        if path.name != "0.png":
            path.write_bytes(path.read_bytes()[:20])
    with monkeypatch.context() as patch:
        patch.setattr("mobilenets.benchmarking.benchmark.benchmark", never)
        done = call("benchmark", str(colours), *QUICK, "--data", "photos")
    assert (done.returncode, done.stdout) == (2, "")
    assert "leave them out with --skip-bad" in done.stderr


def test_unreadable_images_are_left_out_on_request(call, colours, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "test")
    (tmp_path / "split" / "train").mkdir(parents=True)
    for name in ("red", "green", "blue"):
        (tmp_path / "split" / "train" / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "split" / "train" / name / "0.png")
    (tmp_path / "test").rename(tmp_path / "split" / "test")
    (tmp_path / "split" / "test" / "red" / "3.png").write_bytes(b"no picture")
    done = call("benchmark", str(colours), *QUICK, "--data", "split", "--skip-bad", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["top1_basis"] == "29 test images of split"
    assert "left out: " in done.stderr
    assert "3.png" in done.stderr


@pytest.mark.parametrize("missing", ["scipy.special", "sklearn.metrics"])
def test_what_scoring_needs_is_told_before_measuring(call, colours, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("mobilenets.benchmarking.benchmark.benchmark", never)
    done = call("benchmark", str(colours), *QUICK, "--data", "photos")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mobilenets: scoring needs scikit-learn and scipy: pip install scikit-learn scipy\n"


def test_a_scoring_that_fails_loses_no_figure(call, colours, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        kept = json.loads((tmp_path / "measured" / "benchmark.json").read_text())
        assert kept["rows"][0]["measurements"]
        raise DataError("the images are gone")

    monkeypatch.setattr("mobilenets.evaluation.predictions.evaluate_predictions", fails)
    done = call("benchmark", str(colours), *QUICK, "--data", "photos", "--out", "measured", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert len(report["rows"]) == 1
    assert [one["reason"] for one in report["failures"]] == ["not scored: the images are gone"]
    assert json.loads((tmp_path / "measured" / "benchmark.json").read_text()) == report
