"""`predict --engine ray`, by its real process: killed, taken up again, refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from described import write_onnx
from gate import close_gate
from PIL import Image
from ray_processes import needs_ray, processes_of

from mobilenets.install import install_line
from mobilenets.runtime.bulk.session import scratch_folder

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow

ASKED = ("predict", "net.onnx", "photos", "--engine", "ray", "--out", "answers")
IN_PARTS = (*ASKED, "--part-size", "4", "--batch-size", "2", "--workers", "1")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx").path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """18 pictures, of which one is none."""
    (tmp_path / "photos").mkdir()
    for number in range(18):
        Image.new("RGB", (12, 9), (200 - 9 * number, 11 * number, 90)).save(tmp_path / f"photos/{number:02}.png")
    (tmp_path / "photos/03.png").write_text("no picture")
    return tmp_path / "photos"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by Linux' /proc")
def test_killed_and_taken_up_again_it_ends_as_if_nothing_had_been(run: Run, net: Path, photos: Path) -> None:
    here, out = photos.parent, photos.parent / "answers"
    # The only worker is held up in the third part.
    _, environment = close_gate(here / "gate", "10.png")
    with subprocess.Popen([*COMMAND, *IN_PARTS], cwd=here, stdout=subprocess.DEVNULL, env=environment) as process:
        wait_for((out / "part-00001.jsonl").exists, "the first parts")
        second = run(*IN_PARTS)
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.startswith("mobilenets: answers is in use by another process")
        process.kill()
    wait_for(lambda: not processes_of(out), "Ray to end with the process that started it")
    assert not (out / "part-00002.jsonl").exists()
    first = (out / "part-00000.jsonl").stat().st_mtime_ns

    (photos / "notes.txt").write_text("no picture, and not called like one")
    done = run(*IN_PARTS, "--json")
    assert (done.returncode, done.stderr) == (1, "mobilenets: 1 file left out: 1 .txt (photos)\n")
    summary = json.loads(done.stdout)
    assert summary.pop("seconds") > 0
    assert summary == {
        "out": "answers",
        "answered": 17,
        "bad": 1,
        "parts": 5,
        "parts_before": 2,
        "bad_list": "answers/bad.jsonl",
    }
    assert (out / "part-00000.jsonl").stat().st_mtime_ns == first
    assert not processes_of(out)
    assert not scratch_folder(out).exists()

    plain = run("predict", "net.onnx", "photos", "--json")
    parts = sorted(out.glob("part-*.jsonl"))
    assert "".join(part.read_text(encoding="utf-8") for part in parts) == plain.stdout
    (bad,) = map(json.loads, (out / "bad.jsonl").read_text(encoding="utf-8").splitlines())
    assert plain.stderr.splitlines()[2] == f"  {bad['file']}: {bad['reason']}"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [".lock", "bad.jsonl", "finished.jsonl", "manifest.json", *(part.name for part in parts)]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*ASKED[:5],), "--engine ray writes a folder: name it by --out"),
        ((*ASKED, "--format", "table"), "--engine ray writes csv or jsonl, no table"),
        ((*ASKED, "--threads", "0"), "threads is 0"),
        ((*ASKED, "--part-size", "0"), "part_size is 0"),
        (
            ("predict", "net.onnx", "photos", "--out", "answers"),
            "default: answers go to standard output, --format csv > FILE",
        ),
        (("predict", "net.onnx", "photos", "--workers", "2"), "--workers goes with --engine ray"),
        (("predict", "net.onnx", "photos", "--part-size", "4"), "--part-size goes with --engine ray"),
        (("predict", "net.onnx", "photos", "--address", "auto"), "--address goes with --engine ray"),
        (("predict", "net.onnx", "photos", "--engine", "spark"), "spark"),
        (("predict", "absent.onnx", "photos", "--engine", "ray", "--out", "answers"), "absent.onnx: no such file"),
        (("predict", "net.onnx", "photos", "--engine", "ray", "--out", "photos"), "photos holds something else"),
    ],
)
def test_bad_options_are_one_line(call: Run, net: Path, photos: Path, arguments: tuple[str, ...], said: str) -> None:
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (photos.parent / "answers").exists()


@needs_ray
def test_a_cluster_that_is_not_there(call: Run, net: Path, photos: Path) -> None:
    done = call(*ASKED, "--address", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mobilenets: 127.0.0.1:1: no Ray cluster answers (Connection refused)\n"


def test_ray_is_not_installed(call: Run, net: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = call(*ASKED)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mobilenets: the engine ray needs ray: {install_line('cluster')}\n"
