from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from mobilenets.cli.export import main
from mobilenets.evaluation.evaluation_set import readings
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run folder of a network for the ten digits, beside which the command is started."""
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=10, width_mult=0.1, image_size=8).eval()
    saved = SavedNetwork(model, tuple("0123456789"), Preprocessing(image_size=8), {"data": "digits"})
    save_network(tmp_path / "run", saved)
    return tmp_path / "run"


def test_the_command_exports_and_the_file_is_scored_like_the_run(call: Run, trained: Path) -> None:
    done = call("export", "run", "--to", "onnx", "--out", "digits.onnx", "--data", "digits", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["parity"]["top1_agreement"] == 100
    assert record["network_top1"] == record["file_top1"]
    assert "translating to onnx, fp32" in done.stderr
    for target in ("run", "digits.onnx"):
        scored = call("evaluate", target, "--data", "digits", "--json")
        assert scored.returncode == 0, scored.stderr
        assert json.loads(scored.stdout)["top1"] == pytest.approx(record["file_top1"])
    assert [one.command for one in readings(trained)] == ["export", "evaluate"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--to", "onx", "--out", "a.onnx"), "did you mean onnx"),
        (("run", "--to", "onnx", "--out", "a.pte"), "end in .onnx"),
        (("missing", "--to", "onnx", "--out", "a.onnx"), "no run folder"),
        (("run", "--to", "onnx"), "--out"),
        (("run", "--to", "onnx", "--out", "a.onnx", "--min-confidence-accuracy", "95"), "from 0 to below 1"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(call: Run, trained: Path, arguments: tuple[str, ...], message: str) -> None:
    done = call("export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_shows_every_option_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in (
        "--to",
        "--out",
        "--data",
        "--precision",
        "--max-images",
        "--model",
        "--min-confidence-accuracy",
        "--json",
        ".rejected",
        "digits.onnx",
    ):
        assert part in text
