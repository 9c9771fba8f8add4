"""Trainings that are killed, told to end, run twice at once, or lose disk and data: real processes, as they happen."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from .conftest import COMMAND, Run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are ended by POSIX signals")]
TRAIN = [
    *("train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "16", "--data", "photos"),
    *("--recipe", "quick", "--batch-size", "8", "--precision", "float32", "--memory-format", "contiguous"),
    *("--save-seconds", "0", "--epochs", "30"),
]
KILLS = Path(__file__).parents[2] / "benchmarks" / "kills.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a training and wait until it has saved a step."""

    def begin(*arguments: str, out: str = "run") -> subprocess.Popen[str]:
        command = [*COMMAND, *TRAIN, *arguments, "--out", out]
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not (tmp_path / out / "state.previous.pt").exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    return begin


def small_files_only() -> None:
    """What a full disk does to a state: nothing larger than 200 kB can be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_the_benchmark_of_kills_finds_every_run_the_same() -> None:
    command = [sys.executable, str(KILLS), "--kills", "3", "--team-kills", "1", "--epochs", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["alone"]["kills"], result["torchrun"]["kills"]) == (3, 1)
    assert result["alone"]["identical"] == result["alone"]["runs"] >= 1
    assert result["torchrun"]["identical"] == 1


def test_one_run_through_everything_that_can_stop_it(
    start: Callable[..., subprocess.Popen[str]], call: Run, photos: Path, tmp_path: Path
) -> None:
    first = start()
    second = call(*TRAIN, "--out", "run", "--resume")
    assert second.returncode == 2
    assert second.stderr.endswith("run is in use by another process; wait for its end, or choose another folder\n")

    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert "is saved; the same with --resume goes on from there" in said
    assert "Traceback" not in said

    state = (tmp_path / "run" / "state.pt").read_bytes()
    command = [*COMMAND, *TRAIN, "--out", "run", "--resume"]
    full = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, preexec_fn=small_files_only, capture_output=True, text=True, check=False
    )
    assert full.returncode == 2, full.stderr
    assert "state.pt: can't be written (File too large); what was there is unharmed" in full.stderr
    assert "Traceback" not in full.stderr
    assert (tmp_path / "run" / "state.pt").read_bytes() == state

    (tmp_path / "run" / "state.pt").write_bytes(state[:-1000])
    shutil.move(photos, tmp_path / "elsewhere")
    gone = call(*TRAIN, "--out", "run", "--resume")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "there is no 'photos'" in gone.stderr
    shutil.move(tmp_path / "elsewhere", photos)
    done = call(*TRAIN, "--out", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "state.pt is damaged" in done.stderr
    assert "going on from the state before it" in done.stderr

    assert call(*TRAIN, "--out", "whole").returncode == 0
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_one_command_starts_goes_on_and_ends(call: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()  # as one killed before its first state leaves it
    command = (*TRAIN, "--out", "run", "--resume", "--epochs", "1")
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "nothing was saved in run yet: training starts from the beginning" in done.stderr
    files = [path for path in (tmp_path / "run").iterdir() if path.is_file()]
    before = {path.name: path.read_bytes() for path in files}
    again = call(*command)
    assert again.returncode == 0, again.stderr
    assert "run is finished: 1 epoch is trained; nothing is trained again" in again.stderr
    assert again.stdout == done.stdout
    assert {path.name: path.read_bytes() for path in files} == before

    longer = call(*TRAIN, "--out", "run", "--resume", "--epochs", "3")
    assert longer.returncode == 0, longer.stderr
    assert "extended from 1 to 3 epochs" in longer.stderr
    assert "the cosine schedule is computed anew over all 3; the learning rate goes on at" in longer.stderr
    provenance = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]
    assert provenance["extended"] == "from 1 to 3 epochs after epoch 1"
    shorter = call(*TRAIN, "--out", "run", "--resume", "--epochs", "2")
    assert shorter.returncode == 2
    assert "run is another experiment: recipe epochs: 3 there, 2 now" in shorter.stderr


def test_a_folder_that_can_not_be_written_is_one_line(call: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = call(*TRAIN, "--out", "file/run")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "file/run can't be written" in last
    assert "/file is no folder" in last


def test_a_batch_for_three_processes_is_refused_by_all_and_said_once(photos: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*torchrun, "-m", "mobilenets", *TRAIN, "--out", "run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = "mobilenets: a batch of 8 images can't be shared equally by 3 processes; try --batch-size 9"
    assert said in done.stderr
