"""SIGTERM and SIGHUP in the middle of the work: real processes, which leave nothing in TMPDIR and nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mobilenets.cli.main import Terminated, main, orderly_termination
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

from .conftest import COMMAND

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
# Options, the signal, and when it comes: as soon as a temporary folder is made, or while it is in use.
VERBS = {
    "export": (["--to", "onnx", "--out", "out/net.onnx"], signal.SIGTERM, "made"),
    "quantize": (["--out", "out/net.onnx"], signal.SIGHUP, "made"),
    "deploy": (["--out", "out/deployed"], signal.SIGTERM, "used"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; its network need not know anything."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=32).eval()
    save_network(folder, SavedNetwork(model, tuple("0123456789"), Preprocessing(image_size=32), {"data": "digits"}))
    return folder


# Read by every Python that finds it at its start. The first process that makes a temporary folder of ours, or opens a
# file in one, waits there for its signal.
WAITING = """
import os, pathlib, signal, sys, tempfile, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which has it ignored
first = pathlib.Path(tempfile.gettempdir(), "first")
ours = os.path.join(tempfile.gettempdir(), "mobilenets-")

def wait():
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        return
    while True:  # not signal.pause(), which would miss a signal that comes just before it
        time.sleep(0.01)

def waiting_mkdir(path, *arguments, real=os.mkdir, **options):
    real(path, *arguments, **options)
    if os.fspath(path).startswith(ours):
        wait()

def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(ours):
        wait()

if os.environ["WAIT_WHEN"] == "made":
    os.mkdir = waiting_mkdir
else:
    sys.addaudithook(hook)
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_left(verb: str, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    options, number, moment = VERBS[verb]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    process = subprocess.Popen(
        [*COMMAND, verb, str(trained), "--data", "digits", *options],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "TMPDIR": str(temporary),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
            "WAIT_WHEN": moment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (temporary / "first").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert any(path.name.startswith("mobilenets-") for path in temporary.iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert said.rstrip().endswith("mobilenets: stopped")
    assert "Traceback" not in said
    assert [path.name for path in temporary.iterdir()] == ["first"]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_second_signal_does_not_disturb_the_cleaning_up() -> None:
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)

    with pytest.raises(Terminated) as stopped, orderly_termination():
        work()
    assert (stopped.value.exit_code, cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_ignored_or_handled_already_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with orderly_termination():
            os.kill(os.getpid(), signal.SIGHUP)
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
