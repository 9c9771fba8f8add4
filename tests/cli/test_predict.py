from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from described import write_onnx
from gate import close_gate
from PIL import Image

from core_install import core_only
from mobilenets.artifact.description import Confidence
from mobilenets.cli.main import main
from mobilenets.install import install_line

from .conftest import Run

COLOURS = {"red": (250, 20, 10), "green": (20, 250, 10), "blue": (10, 20, 250)}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx").path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos/more").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"photos/more/{name}.png")
    Image.new("RGB", (20, 30), COLOURS["red"]).save(tmp_path / "photos/a.jpg")
    return tmp_path / "photos"


def spoil(photos: Path) -> dict[str, str]:
    """Add one bad file of each kind; names with what is said of them."""
    whole = (photos / "a.jpg").read_bytes()
    bomb = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bomb += (50_000).to_bytes(4, "little") * 2 + b"\x01\x00\x18\x00" + bytes(24)
    for name, content in {
        "zero.png": b"",
        "text.png": b"no picture at all",
        "cut.jpg": whole[: len(whole) // 2],
        "corrupt.png": b"\x89PNG\r\n\x1a\n" + b"\x00" * 40,
        "bomb.bmp": bomb,
    }.items():
        (photos / name).write_bytes(content)
    said = {
        "bomb.bmp": "decompression bomb",
        "corrupt.png": "damaged",
        "cut.jpg": "truncated",
        "text.png": "not an image",
        "zero.png": "empty file",
    }
    return {str(photos / name): reason for name, reason in said.items()}


def test_one_image_shows_its_likeliest_classes(call: Run, net: Path, photos: Path) -> None:
    done = call("predict", "net.onnx", "photos/more/blue.png", "--top", "2")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == "photos/more/blue.png: blue"
    assert [line.split()[-1] for line in lines] == ["blue", "green"]
    assert "█" in lines[0]


def test_a_folder_as_a_table_csv_and_json_lines(call: Run, net: Path, photos: Path) -> None:
    expected = [
        ("photos/a.jpg", "red"),
        *((f"photos/more/{name}.png", name) for name in sorted(COLOURS)),
    ]
    table = call("predict", "net.onnx", "photos")
    assert [tuple(line.split()[-2:][::-1]) for line in table.stdout.splitlines()] == expected
    rows = list(csv.DictReader(io.StringIO(call("predict", "net.onnx", "photos", "--format", "csv").stdout)))
    assert [(row["file"], row["label"]) for row in rows] == expected
    lines = call("predict", "net.onnx", "photos", "--json").stdout.splitlines()
    assert [(record["file"], record["label"]) for record in map(json.loads, lines)] == expected
    assert lines == call("predict", "net.onnx", "photos", "--format", "jsonl", "--batch-size", "1").stdout.splitlines()
    for row, line in zip(rows, lines, strict=True):
        assert float(row["probability"]) == json.loads(line)["probability"]


def test_bad_files_are_listed_and_the_others_answered(call: Run, net: Path, photos: Path) -> None:
    bad = spoil(photos)
    done = call("predict", "net.onnx", "photos", "absent.png", "--json")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 4
    title, *lines = done.stderr.splitlines()
    assert title == "mobilenets: 6 images of 10 can't be read:"
    for line, (name, reason) in zip(lines, [*bad.items(), ("absent.png", "no such file")], strict=True):
        assert line.startswith(f"  {Path(name).relative_to(photos.parent) if '/' in name else name}: {reason}")


@pytest.mark.parametrize("kind", ["zero.png", "text.png", "cut.jpg", "corrupt.png", "bomb.bmp", "absent.png"])
def test_no_file_that_can_be_read_is_bad_input(call: Run, net: Path, photos: Path, kind: str) -> None:
    spoil(photos)
    done = call("predict", "net.onnx", f"photos/{kind}")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2
    assert f"photos/{kind}: " in done.stderr


def test_an_unsure_answer_is_unknown(call: Run, tmp_path: Path, photos: Path) -> None:
    write_onnx(tmp_path / "net.onnx", confidence=Confidence(1.0, 0.999, "a test"))
    grey = np.full((9, 9, 3), 99, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for options, label in (((), "unknown"), (("--threshold", "0"), "red")):
        assert json.loads(call("predict", "net.onnx", "grey.png", "--json", *options).stdout)["label"] == label


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing from mobilenets predict"),
        (("net.onnx",), "no image to classify"),
        (("net.onnx", "empty"), "no images in empty"),
        (
            ("net.onnx", "photos", "--backend", "tensorrt"),
            "no backend tensorrt; onnx files run in onnxruntime and openvino",
        ),
        (("net.onnx", "photos", "--backend", "litert"), "litert does not run onnx files"),
        (("net.onnx", "photos", "--precision", "int4"), "does not run it in int4"),
        (("net.onnx", "photos", "--threads", "0"), "at least 1 thread, not 0"),
        (("net.onnx", "photos", "--top", "0"), "top is 0"),
        (("net.onnx", "photos", "--batch-size", "0"), "batch_size is 0"),
        (("net.onnx", "photos", "--threshold", "60"), "a probability from 0 to 1, not 60"),
        (("net.onnx", "photos", "--format", "xml"), "xml"),
    ],
)
def test_bad_options_are_one_line(call: Run, net: Path, photos: Path, arguments: tuple[str, ...], said: str) -> None:
    (photos.parent / "empty").mkdir()
    done = call("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_backend_that_is_not_installed(call: Run, net: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.runtime.backend.find_spec", lambda name: None)
    done = call("predict", "net.onnx", "photos", "--backend", "openvino")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"openvino is not installed: {install_line('openvino')}\n")


@pytest.mark.slow
def test_the_core_install_is_enough(run: Run, net: Path, photos: Path, tmp_path: Path) -> None:
    done = run("predict", "net.onnx", "photos", **core_only(tmp_path / "core"))
    assert done.returncode == 0, done.stderr
    assert "red" in done.stdout


@pytest.mark.slow
def test_predict_imports_little(net: Path, photos: Path) -> None:
    """Half a second is all it may take; each of these alone takes a tenth of that or more."""
    program = (
        "import sys\nfrom mobilenets.cli.main import main\n"
        f"main(['predict', {str(net)!r}, {str(photos / 'a.jpg')!r}])\n"
        "heavy = {'rich.console', 'rich.table', 'typeguard', 'asyncio', 'openvino', 'ai_edge_litert', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_names_the_terminal_can_not_show(net: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    (photos / "a.jpg").rename(photos / "ä青.jpg")
    (photos / "text-青.png").write_text("no picture")
    out, complaints = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(complaints, "ascii", errors="backslashreplace"))
    assert main(["predict", str(net), str(photos), "--format", form]) == 1
    sys.stderr.flush()
    assert out.getvalue().count(b"red") >= 2
    assert b"text-\\u9752.png: not an image" in complaints.getvalue()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(net: Path, photos: Path) -> None:
    command = f"{sys.executable} -m mobilenets predict {net} {' '.join([str(photos)] * 50)} --json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_come_as_they_are_made(net: Path, photos: Path, tmp_path: Path) -> None:
    """A program that feeds on them need not wait for the last, which here takes until it has the first."""
    Image.new("RGB", (20, 30)).save(photos / "more/zz.png")
    gate, environment = close_gate(tmp_path / "gate", "zz.png")
    command = [
        sys.executable,
        "-u",
        "-m",
        "mobilenets",
        "predict",
        str(net),
        str(photos),
        "--json",
        "--batch-size",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["label"] == "red"
        assert process.poll() is None
        gate.unlink()
        assert process.stdout.read().count("zz.png") == 1
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    assert process.returncode in (0, 1)


def test_a_zip_is_answered_like_its_folder(call: Run, net: Path, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in photos.rglob("*"):
            archive.write(path, path.relative_to(photos))
    folder = call("predict", str(net), str(photos), "--format", "jsonl")
    zipped = call("predict", str(net), str(tmp_path / "photos.zip"), "--format", "jsonl")
    assert (folder.returncode, zipped.returncode) == (0, 0)
    assert len(folder.stdout.splitlines()) == 4
    assert zipped.stdout == folder.stdout.replace(str(photos), str(tmp_path / "photos.zip"))


@pytest.mark.parametrize(
    "verb",
    [
        ("predict", "NET", "PHOTO"),
        ("benchmark", "NET", "--seconds", "0.1"),
        ("evaluate", "NET", "--data", "digits"),
        ("export", "RUN", "--to", "onnx", "--out", "out.onnx"),
        ("deploy", "RUN", "--data", "digits", "--out", "out"),
        ("predict", "NET", "PHOTO", "--engine", "ray", "--out", "out"),
    ],
    ids=" ".join,
)
def test_threads_no_machine_has_are_refused(call: Run, net: Path, photos: Path, verb: tuple[str, ...]) -> None:
    names = {"NET": str(net), "PHOTO": str(photos / "a.jpg"), "RUN": str(photos)}
    done = call(*(names.get(word, word) for word in verb), "--threads", "100000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mobilenets: 100000 threads are too many: at most ")
    assert done.stderr.count("\n") == 1
