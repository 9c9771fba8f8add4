"""`mobilenets benchmark` as its users start it, with and without PyTorch."""

from __future__ import annotations

import json

import pytest

QUICK = ("--backends", "onnxruntime", "--threads", "1", "--seconds", "0", "--starts", "1", "--batch-sizes", "1")
NOT_IN_THE_CORE = (
    "torch",
    "torchvision",
    "matplotlib",
    "sklearn",
    "scipy",
    "pydantic",
    "jinja2",
    "safetensors",
    "onnx",
)


@pytest.fixture
def core_only(tmp_path):
    """A folder for PYTHONPATH in which everything the core install lacks fails to import, in child processes too."""
    for name in NOT_IN_THE_CORE:
        (tmp_path / "core" / name).mkdir(parents=True)
        missing = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
        (tmp_path / "core" / name / "__init__.py").write_text(missing)
    return {"PYTHONPATH": str(tmp_path / "core")}


@pytest.fixture
def two_classes(tmp_path):
    """An untrained network that answers the classes of `photos`."""
    from mobilenets.exporting.onnx import export_onnx
    from mobilenets.models.registry import create_model
    from mobilenets.preprocessing import Preprocessing

    model = create_model("mobilenet_v2", num_classes=2, width_mult=0.35, image_size=16)
    path = tmp_path / "two.onnx"
    export_onnx(model, path, preprocessing=Preprocessing(image_size=16), classes=("cold", "warm"))
    return path


def test_a_core_install_measures_and_says_what_the_picture_needs(run, onnx_file, tmp_path, core_only):
    done = run("benchmark", str(onnx_file), *QUICK, "--json", "--out", "measured", **core_only)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["label"] for row in report["rows"]] == ["model.onnx, ONNX Runtime fp32, 1 thread"]
    assert report["rows"][0]["measurements"][0]["latency"]["median_ms"] > 0
    assert "torch" not in report["failures"]
    assert json.loads((tmp_path / "measured" / "benchmark.json").read_text()) == report
    assert "is not drawn: the picture needs matplotlib: pip install 'mobilenets[train]'" in done.stderr
    assert not (tmp_path / "measured" / "benchmark.png").exists()


def test_a_picture_asked_for_by_name_is_missed_before_measuring(run, onnx_file, core_only):
    done = run("benchmark", str(onnx_file), *QUICK, "--plot", "b.png", **core_only)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mobilenets: the picture needs matplotlib: pip install 'mobilenets[train]'\n"


def test_pytorch_as_a_peer_needs_pytorch(run, onnx_file, core_only):
    """The others' figures are printed all the same."""
    done = run("benchmark", str(onnx_file), *QUICK, "--against", "pytorch", **core_only)
    assert done.returncode == 1, done.stderr
    assert "fastest is model.onnx, ONNX Runtime fp32, 1 thread" in done.stdout
    assert "failed: PyTorch eager, 1 thread: --against pytorch needs torch" in done.stdout.replace("\n", " ")


def test_tables_and_picture(call, onnx_file, tmp_path):
    done = call("benchmark", str(onnx_file), *QUICK, "--against", "onnxruntime", "--out", "measured")
    assert done.returncode == 0, done.stderr
    for words in ("batch 1", "Cold start", "by hand", "fastest is model.onnx, ONNX Runtime fp32, 1 thread"):
        assert words in done.stdout
    assert (tmp_path / "measured" / "benchmark.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.onnx",), "missing.onnx: no such file; 'mobilenets export' makes one"),
        (("FILE", "--backends", "tensorrt"), "no backend tensorrt; there are onnxruntime, openvino"),
        (("FILE", "--batch-sizes", "0"), "batch sizes are whole numbers from 1"),
        (("FILE", "--threads", "0"), "a candidate needs at least 1 thread, not 0"),
        (("FILE", "--against", "tensorflow"), "a peer is pytorch, onnxruntime, openvino"),
        (("FILE", "--seconds", "-1"), "a benchmark needs finite seconds"),
        (("FILE", "--thread", "1"), "Unrecognized"),
    ],
)
def test_bad_input_is_one_line(call, onnx_file, arguments, message):
    done = call("benchmark", *(str(onnx_file) if one == "FILE" else one for one in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mobilenets: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_data_of_other_classes_is_refused_before_measuring(call, onnx_file):
    done = call("benchmark", str(onnx_file), *QUICK, "--data", "digits")
    assert (done.returncode, done.stdout) == (2, "")
    assert "digits has other classes" in done.stderr


def test_accuracy_is_that_of_the_file_on_the_test_images(call, photos, two_classes):
    done = call("benchmark", str(two_classes), *QUICK, "--data", str(photos), "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    images = int(row["top1_basis"].split()[0])
    assert row["top1"] * images / 100 == pytest.approx(round(row["top1"] * images / 100))
    assert 0 < images < 24
