"""A comparison's folder stands for the network it recommends."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
from pathlib import Path

import pytest

from mobilenets.cli.main import main
from mobilenets.comparison.networks import ComparedNetwork
from mobilenets.errors import RunError
from mobilenets.run_folder import recommended_file, recommended_run
from mobilenets.runtime.classifier import Classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a comparison of two networks, as far as it matters here."""
    rows = [
        {
            "label": f"{model} x0.5",
            "model": model,
            "width_mult": 0.5,
            "image_size": 32,
            "runs": [{"seed": 3}, {"seed": 4}],
        }
        for model in ("mobilenet_v1", "mobilenet_v2")
    ]
    choice = {"label": "mobilenet_v2 x0.5", "reason": "it is the most accurate"}
    own = tmp_path / "comparison-pets"
    network = own / "runs" / ComparedNetwork("mobilenet_v2", 0.5, 32, "").folder
    (network / "seed3").mkdir(parents=True)
    (network / "model.onnx").write_bytes(b"onnx")
    (own / "comparison.json").write_text(json.dumps({"choice": choice, "rows": rows, "nan": float("nan")}))
    return own


def test_it_is_the_first_seeds_run_and_the_file_beside_it(folder: Path, tmp_path: Path) -> None:
    assert recommended_run(str(folder)) == folder / "runs" / "mobilenet_v2-x0.5-32px" / "seed3"
    assert recommended_file(folder) == folder / "runs" / "mobilenet_v2-x0.5-32px" / "model.onnx"
    moved = folder.rename(tmp_path / "elsewhere")
    assert recommended_run(moved) == moved / "runs" / "mobilenet_v2-x0.5-32px" / "seed3"


@pytest.mark.slow
def test_a_classifier_takes_it_too(folder: Path, onnx_file: Path) -> None:
    shutil.copyfile(onnx_file, folder / "runs" / "mobilenet_v2-x0.5-32px" / "model.onnx")
    classifier = Classifier(str(folder))
    assert classifier.artifact.path == recommended_file(folder)
    assert pickle.loads(pickle.dumps(classifier)).classes == classifier.classes


def test_anything_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path, folder / "comparison.json", tmp_path / "missing", "imagenet", "package.module:Net"):
        assert recommended_run(path) is None
        assert recommended_file(path) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"choice": {"label": None, "reason": "none is within 1 ms"}},
            r"recommends no network \(none is within 1 ms\)",
        ),
        ({"choice": {"label": "gone", "reason": ""}}, "recommends no network"),
        ({"rows": []}, "recommends no network"),
        ({"choice": None}, "describes no comparison"),
        ({"rows": [{"label": "mobilenet_v2 x0.5"}]}, "describes no comparison"),
        (
            {
                "rows": [
                    {
                        "label": "mobilenet_v2 x0.5",
                        "model": "../x",
                        "width_mult": 1,
                        "image_size": 1,
                        "runs": [{"seed": 0}],
                    }
                ]
            },
            "that can't be one",
        ),
    ],
)
def test_what_it_can_not_stand_for(folder: Path, change: dict[str, object], said: str) -> None:
    path = folder / "comparison.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunError, match=said):
        recommended_run(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[]"])
def test_a_damaged_comparison(folder: Path, content: bytes) -> None:
    (folder / "comparison.json").write_bytes(content)
    with pytest.raises(RunError, match=r"comparison\.json (can't be read|describes no comparison)"):
        recommended_run(folder)


def test_what_is_gone_is_named(folder: Path) -> None:
    network = folder / "runs" / "mobilenet_v2-x0.5-32px"
    (network / "seed3").rmdir()
    with pytest.raises(RunError, match=r"seed3, which .* recommends, is gone"):
        recommended_run(folder)
    (network / "model.onnx").unlink()
    with pytest.raises(RunError, match=r"model\.onnx, which .* recommends, is gone") as caught:
        recommended_file(folder)
    command = shlex.split(str(caught.value).rpartition("to write it again: ")[2])
    assert command == ["mobilenets", "export", str(folder), "--to", "onnx", "--out", str(network / "model.onnx")]


@pytest.mark.slow
def test_every_command_says_so_in_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "comparison.json").write_text("{}")
    given, out = str(folder), str(tmp_path / "out")
    commands = [
        ("evaluate", given),
        ("export", given, "--to", "onnx", "--out", f"{out}.onnx"),
        ("quantize", given, "--data", "digits", "--out", f"{out}.onnx"),
        ("deploy", given, "--data", "digits", "--out", out),
        ("train", "mobilenet_v2", "--weights", given, "--data", "digits", "--out", out),
        ("audit", given),
        ("predict", given, "photo.png"),
        ("benchmark", given),
    ]
    for command in commands:
        assert main(command) == 2, command
        said = capsys.readouterr().err
        assert said.count("\n") == 1, command
        assert "describes no comparison" in said, command


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("width_mult", float("inf"), "a network that can't be one"),
        ("image_size", float("inf"), "OverflowError"),
        ("image_size", 10**18, "a network that can't be one"),
        ("model", "a\nb", "a network that can't be one"),
        ("model", "v" + "9" * 5000, "a network that can't be one"),
        ("model", "../../x", "a network that can't be one"),
        ("runs", [{"seed": 10**19}], "seed is 10000000000000000000"),
        ("runs", [{"seed": float("nan")}], "describes no comparison"),
    ],
    ids=range(8),
)
def test_a_row_that_names_no_folder_is_one_short_line(folder: Path, field: str, value: object, said: str) -> None:
    path = folder / "comparison.json"
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row[field] = value
    path.write_text(json.dumps(content))
    for find in (recommended_run, recommended_file):
        with pytest.raises(RunError, match=said) as caught:
            find(folder)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 400
