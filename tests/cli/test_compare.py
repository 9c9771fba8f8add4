from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from mobilenets.comparison import measure

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow

COMPARE = [
    *("compare", "--data", "photos", "--models", "mobilenet_v3_small,mobilenet_v1", "--width-mult", "0.25"),
    *("--image-size", "16", "--recipe", "quick", "--out", "out"),
]


def test_a_killed_comparison_continues_where_it_stopped(
    call: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "TIMING_SECONDS", 0.1)  # here it is not the figure that matters
    arguments = [*COMPARE, "--epochs", "12"]
    process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL)
    second = tmp_path / "out" / "runs" / "mobilenet_v1-x0.25-16px" / "seed0" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while not (second.exists() and second.read_text().count("\n") >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = tmp_path / "out" / "runs" / "mobilenet_v3_small-x0.25-16px" / "seed0" / "model.safetensors"
    trained = first.stat().st_mtime_ns

    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == trained, "the finished network was trained again"
    assert "resumed after epoch" in done.stderr
    assert "Recommended: mobilenet_v" in done.stdout
    assert "The choice went by 3 validation images, not by the 5 test images; these were read once" in done.stdout
    assert "Report: out/report.html" in done.stdout
    epochs = [json.loads(line)["epoch"] for line in second.read_text().splitlines()]
    assert epochs == list(range(1, 13))
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "comparison.json",
        "comparison.csv",
        "report.html",
        "summary.png",
    }

    assert done.stdout.splitlines()[-1] == "Next: mobilenets deploy out --data photos --out deployed"
    chosen = json.loads((tmp_path / "out" / "comparison.json").read_text())["choice"]["label"].partition(" ")[0]
    scored = call("evaluate", "out", "--data", "photos", "--json")
    assert scored.returncode == 0, scored.stderr
    assert f"out recommends out/runs/{chosen}-x0.25-16px/seed0" in scored.stderr
    assert json.loads(scored.stdout)["count"] == 5
    answers = call("predict", "out", "photos", "--format", "csv")
    assert (answers.returncode, answers.stdout.count("\n")) == (0, 25), answers.stderr

    machine = call(*arguments, "--json", "--max-params", "1")
    assert machine.returncode == 0, machine.stderr
    result = json.loads(machine.stdout)
    assert [row["label"] for row in result["rows"]] == ["mobilenet_v3_small x0.25", "mobilenet_v1 x0.25"]
    assert result["choice"]["label"] is None
    assert result["command"].endswith("--json --max-params 1")


def test_a_bad_image_stops_it_before_any_training(call: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "warm" / "00.png").write_bytes((photos / "warm" / "00.png").read_bytes()[:60])
    done = call(*COMPARE, "--epochs", "1")
    assert done.returncode == 2
    assert "00.png" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
