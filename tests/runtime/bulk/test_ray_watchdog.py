"""Ray's processes end with the one that started them, whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from described import write_onnx
from PIL import Image
from ray_processes import needs_ray, processes_of

from mobilenets.runtime.bulk.session import scratch_folder
from mobilenets.runtime.bulk.watchdog import VARIABLE, marked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are known by Linux' /proc"),
]

PARENT = """
import os, subprocess, sys, time
from pathlib import Path
from mobilenets.runtime.bulk.watchdog import VARIABLE
from mobilenets.runtime.bulk.session import _watched

scratch = Path(sys.argv[1])
with _watched(scratch) as mark:
    scratch.mkdir()
    (scratch / VARIABLE).write_text(mark)
    chain = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", chain], env={**os.environ, VARIABLE: mark}, start_new_session=True)
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if os.fork() == 0:  # it holds a copy of the pipe the watchdog waits on
        time.sleep(20)
        os._exit(0)
    print(mark, other.pid, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[[float], tuple[subprocess.Popen[str], str, int]]]:
    others: list[int] = []

    def start(seconds: float) -> tuple[subprocess.Popen[str], str, int]:
        command = [sys.executable, "-c", PARENT, str(tmp_path / "scratch"), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as said:
            mark, other = said.readline().split()
        others.append(int(other))
        return process, mark, int(other)

    yield start
    for pid in others:
        os.kill(pid, signal.SIGKILL)


Parent = Callable[[float], tuple[subprocess.Popen[str], str, int]]


def test_a_killed_process_takes_those_it_marked_along_and_no_others(parent: Parent, tmp_path: Path) -> None:
    process, mark, other = parent(600)
    wait_for(lambda: len(marked(mark)) == 2, "child and grandchild")
    process.kill()
    process.wait()
    wait_for(lambda: not marked(mark), "their end")
    wait_for(lambda: not (tmp_path / "scratch").exists(), "the end of the scratch folder")
    os.kill(other, 0)  # still there


def test_the_scratch_folder_of_a_session_that_came_after_is_left(parent: Parent, tmp_path: Path) -> None:
    process, mark, _ = parent(600)
    (tmp_path / "scratch" / VARIABLE).write_text("another")
    process.kill()
    process.wait()
    wait_for(lambda: not marked(mark), "the end of the children")
    wait_for(lambda: not _watchdogs(tmp_path), "the watchdog's own end")
    assert (tmp_path / "scratch").exists()


def test_an_orderly_end_takes_them_along_too(parent: Parent, tmp_path: Path) -> None:
    process, mark, other = parent(0)
    assert process.wait(60) == 0
    assert not marked(mark)
    assert not _watchdogs(tmp_path)
    os.kill(other, 0)


def _watchdogs(folder: Path) -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_text(errors="replace"))
        except OSError:  # it has ended
            continue
    return [one for one in commands if "watchdog.py" in one and str(folder) in one]


@needs_ray
@pytest.mark.parametrize("moment", ["/gcs/gcs_server", "/raylet/raylet", "ray::"])
def test_killed_while_ray_starts_it_leaves_nothing(tmp_path: Path, moment: str) -> None:
    write_onnx(tmp_path / "net.onnx")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (12, 9)).save(tmp_path / "photos/0.png")
    out = tmp_path / "answers"
    command = [
        sys.executable,
        "-m",
        "mobilenets",
        "predict",
        "net.onnx",
        "photos",
        "--engine",
        "ray",
        "--out",
        "answers",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = scratch_folder(out) / VARIABLE
    wait_for(told.exists, "the mark", 120)
    mark = told.read_text()
    wait_for(lambda: any(moment in _command(pid) for pid in marked(mark)), moment, 120)
    process.kill()
    process.wait()
    wait_for(lambda: not (marked(mark) or processes_of(out)), "the end of Ray's processes")
    assert not scratch_folder(out).exists()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # it has ended
        return ""
