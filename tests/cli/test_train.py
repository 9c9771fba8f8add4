from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow

TRAIN = [
    *("train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "16", "--data", "photos"),
    *("--recipe", "quick", "--batch-size", "8", "--precision", "float32", "--memory-format", "contiguous"),
]


def test_a_folder_of_photos_becomes_a_run_folder_that_can_be_evaluated(
    run: Run, call: Run, photos: Path, tmp_path: Path
) -> None:
    done = run(*TRAIN, "--epochs", "5", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "run folder: run" in done.stdout
    assert "images, read once), validation " in done.stdout
    assert "  validation " in done.stderr
    assert "epoch   5/5" in done.stderr
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names >= {"model.safetensors", "model.json", "recipe.toml", "metrics.jsonl", "state.pt", "tensorboard"}
    assert json.loads((tmp_path / "run" / "model.json").read_text())["classes"] == ["cold", "warm"]
    assert "epochs = 5" in (tmp_path / "run" / "recipe.toml").read_text()

    scored = call("evaluate", "run", "--data", "photos", "--json")
    assert scored.returncode == 0, scored.stderr
    metrics = json.loads(scored.stdout)
    trained = json.loads((tmp_path / "run" / "scores.json").read_text())["test"]
    assert metrics["confusion"] == trained["confusion"]
    assert metrics["top1"] == trained["top1"] > 50
    assert "Recall" in call("evaluate", "run", "--data", "photos", "--split", "train").stdout

    assert "read for this run before (train, " in scored.stderr
    assert "this is reading 2, see run/test_reads.jsonl" in scored.stderr
    scored = call("evaluate", "run", "--data", "photos", "--split", "validation", "--json")
    saved = json.loads((tmp_path / "run" / "scores.json").read_text())["validation"]
    assert json.loads(scored.stdout)["confusion"] == saved["confusion"]
    assert "before" not in scored.stderr
    assert (tmp_path / "run" / "test_reads.jsonl").read_text().count("\n") == 2
    Image.new("RGB", (16, 16)).save(photos / "warm" / "more.png")
    other = call("evaluate", "run", "--data", "photos", "--split", "validation")
    assert other.returncode == 0
    (photos / "warm" / "more.png").unlink()

    wrong = call("evaluate", "run", "--data", "digits")
    assert wrong.returncode == 2
    assert "It answers cold, warm (2)" in wrong.stderr


def test_a_second_train_into_the_same_folder_is_refused_and_resume_finds_it_finished(call: Run, photos: Path) -> None:
    assert call(*TRAIN, "--epochs", "2", "--out", "run").returncode == 0
    again = call(*TRAIN, "--epochs", "2", "--out", "run")
    assert again.returncode == 2
    assert "run holds a run already" in again.stderr
    finished = call(*TRAIN, "--epochs", "2", "--out", "run", "--resume")
    assert finished.returncode == 0
    assert "finished: all 2 epochs are trained; nothing is trained again" in finished.stderr
    assert "loss" not in finished.stderr
    other = call(*TRAIN, "--epochs", "2", "--batch-size", "3", "--out", "run", "--resume")
    assert other.returncode == 2
    assert "recipe batch_size: 8 there, 3 now" in other.stderr


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_weights(call: Run, photos: Path, tmp_path: Path) -> None:
    arguments = [*TRAIN, "--epochs", "16", "--out"]
    process = subprocess.Popen([*COMMAND, *arguments, "parts"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    metrics = tmp_path / "parts" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 2):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this step" in said
    assert "the same with --resume goes on" in said
    assert "Traceback" not in said

    resumed = call(*arguments, "parts", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after epoch" in resumed.stderr
    whole = call(*arguments, "whole")
    assert whole.returncode == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("parts", "whole"))
    assert all(bool((first[key] == second[key]).all()) for key in second)


def test_a_loss_that_diverges_is_said_with_its_step_and_exit_code_1(call: Run, photos: Path) -> None:
    done = call(*TRAIN, "--epochs", "5", "--out", "run", "--optimizer", "sgd", "--learning-rate", "1e18")
    assert done.returncode == 1
    assert "in epoch" in done.stderr
    assert "try a lower learning_rate" in done.stderr
    assert "Traceback" not in done.stderr


def test_many_bad_photos_are_all_listed(call: Run, photos: Path) -> None:
    for number in range(12):
        (photos / "warm" / f"broken{number}.jpg").write_bytes(b"")
    done = call(*TRAIN, "--epochs", "1", "--out", "run")
    assert done.returncode == 2
    assert "12 images can't be read" in done.stderr.splitlines()[0]
    assert all(done.stderr.count(f"broken{number}.jpg") == 1 for number in range(12))


def test_bad_photos_are_listed_and_left_out_only_on_request(call: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "warm" / "broken.jpg").write_bytes(b"no picture")
    (photos / "cold" / "empty.png").write_bytes(b"")
    refused = call(*TRAIN, "--epochs", "1", "--out", "run")
    assert refused.returncode == 2
    assert "2 images can't be read" in refused.stderr
    assert "broken.jpg" in refused.stderr
    assert "empty.png" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = call(*TRAIN, "--epochs", "1", "--out", "run", "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert "2 images left out:" in done.stderr
    assert done.stderr.count("broken.jpg") == done.stderr.count("empty.png") == 1
