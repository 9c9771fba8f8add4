"""Nothing we run looks a name up in the network: not Python, not the C libraries, not a process started for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Both kinds of look-up are written down, and fail as without a network. Native libraries call the C function.
C_HOOK = r"""
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *path = getenv("LOOKUPS");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (file >= 0 && node && write(file, node, strlen(node)) >= 0 && write(file, "\n", 1) >= 0) close(file);
    return EAI_NONAME;
}
"""
PYTHON_HOOK = """
import os, socket
def getaddrinfo(host, *rest, **named):
    with open(os.environ["LOOKUPS"], "a") as file:
        print(host, file=file)
    raise socket.gaierror(socket.EAI_NONAME, "no look-ups here")
socket.getaddrinfo = getaddrinfo
"""
VERBS = """
import sys, time
from pathlib import Path
from mobilenets.cli.main import main

images = sys.argv[1]
one = next(Path(images).rglob("*.png"))
small = ["--width-mult", "0.25", "--image-size", "32"]
run = ["train", "mobilenet_v1", "--data", images, "--recipe", "quick", "--epochs", "1", "--out", "run", *small]
formats = (("onnx", "a.onnx"), ("openvino", "b"), ("litert", "c.tflite"), ("executorch", "d.pte"))
runtimes = (
    *(("a.onnx", "onnxruntime"), ("a.onnx", "openvino"), ("b", "openvino")),
    *(("c.tflite", "litert"), ("d.pte", "executorch")),
)
calls = [
    run,
    ["doctor", images, "--out", "checkup"],
    *(["export", "run", "--to", to, "--out", name] for to, name in formats),
    *(["predict", file, str(one), "--backend", backend] for file, backend in runtimes),
    ["evaluate", "a.onnx", "--data", images],
    ["audit", "run"],
    ["audit", "a.onnx"],
    ["benchmark", "a.onnx", "--seconds", "0.05", "--starts", "1", "--batch-sizes", "1", "--threads", "1"],
    ["quantize", "run", "--data", images, "--out", "q.onnx", "--max-drop", "100"],
    ["deploy", "run", "--data", images, "--out", "deployed", "--seconds", "0.05", "--targets", "onnx", "--no-finetune",
     "--against", "onnxruntime", "--threads", "1"],
]
for call in calls:
    code = main(call)
    print("VERB", call[0], code, flush=True)
time.sleep(3)  # what is sent in the background, or when a process ends
"""


@pytest.fixture
def hooked(tmp_path):
    """An environment in which every look-up of a process, and of those it starts, is written to `lookups`."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("look-ups of C libraries are caught on Linux, with a C compiler")
    (tmp_path / "hook.c").write_text(C_HOOK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "hook.so", tmp_path / "hook.c"], check=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PYTHON_HOOK)
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    paths = os.pathsep.join(filter(None, [str(tmp_path / "site"), environment.get("PYTHONPATH", "")]))
    return {
        **environment,
        "PYTHONPATH": paths,
        "LD_PRELOAD": str(tmp_path / "hook.so"),
        "LOOKUPS": str(tmp_path / "lookups"),
        "HOME": str(tmp_path / "home"),
    }


def lookups(environment):
    path = Path(environment["LOOKUPS"])
    return path.read_text().split() if path.exists() else []


def test_look_ups_of_python_and_of_c_are_seen(hooked):
    program = (
        "import socket, ctypes\n"
        "try: socket.getaddrinfo('from.python.invalid', 80)\n"
        "except OSError: pass\n"
        "ctypes.CDLL(None).getaddrinfo(b'from.c.invalid', None, None, None)\n"
    )
    subprocess.run([sys.executable, "-c", program], env=hooked, check=True)
    assert lookups(hooked) == ["from.python.invalid", "from.c.invalid"]


@pytest.mark.slow
def test_no_verb_and_no_runtime_looks_anything_up(hooked, tmp_path):
    for package in ("openvino", "ai_edge_litert", "executorch", "onnx"):
        pytest.importorskip(package)
    random = np.random.default_rng(0)
    for name, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(24):
            pixels = random.integers(0, 120, (36, 36, 3), dtype=np.uint8)
            pixels[..., channel] += 130
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    command = [sys.executable, "-c", VERBS, "images"]
    done = subprocess.run(command, env=hooked, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    verbs = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("VERB")]
    assert {code for _, code in verbs} <= {"0", "1"}, done.stdout + done.stderr  # 1: an audit found something
    assert {verb for verb, _ in verbs} >= {"train", "export", "predict", "evaluate", "quantize", "deploy", "benchmark"}
    assert lookups(hooked) == []
