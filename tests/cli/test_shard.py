"""`mobilenets shard`, and training on what it wrote: through real processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mobilenets import shard, train
from mobilenets.errors import DataError
from mobilenets.progress import Silent, StepReport

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TRAIN = [
    *("train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "16", "--data", "shards"),
    *("--recipe", "quick", "--batch-size", "8", "--precision", "float32", "--memory-format", "contiguous"),
    *("--save-seconds", "0", "--epochs", "5"),
]


def kill_once(path: Path, command: list[str], folder: Path) -> None:
    """Start a command, kill it as soon as a file is there, and see that it was not done by then."""
    process = subprocess.Popen([*COMMAND, *command], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="processes are ended by POSIX signals")
def test_a_writer_that_was_killed_goes_on_and_rewrites_nothing(tmp_path: Path) -> None:
    command = ["shard", "digits", "--out", "out", "--images-per-shard", "12"]
    kill_once(tmp_path / "out" / "train-000004.tar", command, tmp_path)
    assert not (tmp_path / "out" / "index.json").exists()
    noted = len((tmp_path / "out" / "index.part.jsonl").read_bytes().splitlines()) - 1
    assert noted >= 3
    kept = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("train-*.tar"))[: noted - 1]}
    shard("digits", tmp_path / "out", images_per_shard=12)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    shard("digits", tmp_path / "whole", images_per_shard=12)
    both = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "whole")]
    assert both[0] == both[1]


@pytest.mark.skipif(os.name != "posix", reason="processes are ended by POSIX signals")
def test_a_training_that_was_killed_comes_to_the_same_weights(call: Run, photos: Path, tmp_path: Path) -> None:
    shard(photos, tmp_path / "shards", images_per_shard=4)
    kill_once(tmp_path / "run" / "state.previous.pt", [*TRAIN, "--out", "run"], tmp_path)
    resumed = call(*TRAIN, "--out", "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "note: 19 training images are streamed from 5 shards\n" in resumed.stderr
    assert call(*TRAIN, "--out", "whole").returncode == 0
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)
    for option, reason in ((("--balance", "weights"), "balance needs the class of every image beforehand"),):
        refused = call(*TRAIN, "--out", "other", *option)
        assert (refused.returncode, reason in refused.stderr) == (2, True), refused.stderr
    other = call(*TRAIN, "--data", "shards/train-{000000..000003}.tar", "--out", "run", "--resume")
    assert other.returncode == 2
    assert "digest" in other.stderr or "training images" in other.stderr


def test_shards_that_vanish_in_the_middle_stop_a_training_which_goes_on_once_they_are_back(
    photos: Path, tmp_path: Path
) -> None:
    shard(photos, tmp_path / "shards", images_per_shard=4)

    class Vandal(Silent):
        def step(self, report: StepReport) -> None:
            if (tmp_path / "shards").exists():
                (tmp_path / "shards").rename(tmp_path / "elsewhere")

    run: Callable[..., object] = lambda **more: train(  # noqa: E731
        "mobilenet_v3_small",
        tmp_path / "shards",
        tmp_path / "run",
        recipe="quick",
        width_mult=0.25,
        image_size=16,
        epochs=2,
        batch_size=8,
        **more,
    )
    with pytest.raises(
        DataError,
        match=r"^shard \S+ can't be read .*\. Saved before \S+ 2\b.*: `resume=True` goes on once they are back$",
    ):
        run(progress=Vandal())
    (tmp_path / "elsewhere").rename(tmp_path / "shards")
    run(resume=True)


def test_what_it_prints(call: Run, photos: Path, tmp_path: Path) -> None:
    done = call("shard", "photos", "--out", "out", "--images-per-shard", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 shards, 0 MiB: 19 training and 5 test images of 2 classes\nfolder: out\n"
    told = json.loads(call("shard", "photos", "--out", "out", "--images-per-shard", "8", "--json").stdout)
    assert [entry["images"] for entry in told["shards"]] == [8, 8, 3, 5]
    assert told["class_counts"] == {"train": [10, 9], "test": [2, 3]}
    scored = call("evaluate", "nowhere", "--data", "out")
    assert scored.returncode == 2
    (photos / "cold" / "03.png").write_bytes(b"broken")
    bad = call("shard", "photos", "--out", "other")
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    assert "1 image can't be read: photos/cold/03.png: not an image" in bad.stderr
    assert "shard" in call("--help").stdout
