"""Files the audit does not read say what they are and what to do, told by content; nothing in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_small

from mobilenets.auditing.target import load_target
from mobilenets.errors import AuditError


def told(path: Path) -> str:
    with pytest.raises(AuditError) as caught:
        load_target(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("name", ["net.pt", "net.onnx", "net.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_saved_module_is_named_by_its_class(tmp_path: Path, name: str, *, zipped: bool) -> None:
    torch.save(mobilenet_v3_small(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    message = told(tmp_path / name)
    assert message.startswith("is a whole module saved with torch.save")
    assert message.endswith("audit its code: torchvision.models.mobilenetv3:MobileNetV3")


def test_a_module_in_a_checkpoint_or_a_plain_pickle_is_one_too(tmp_path: Path) -> None:
    torch.save({"model": nn.Sequential(nn.Conv2d(3, 4, 3)), "epoch": 3}, tmp_path / "last.ckpt")
    assert told(tmp_path / "last.ckpt").endswith("audit its code: path/file.py:Class")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(mobilenet_v3_small(), protocol=4))
    assert "MobileNetV3" in told(tmp_path / "net.pkl")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"net": Bomb(), "part": nn.ReLU()}, tmp_path / "net.pt")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Bomb()))
    told(tmp_path / "net.pt")
    told(tmp_path / "net.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_alone_are_that(tmp_path: Path, *, zipped: bool) -> None:
    state = nn.Conv2d(3, 4, 3).state_dict()
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert told(tmp_path / "w.pth").startswith("holds weights alone")
    (tmp_path / "w.model").write_bytes((16).to_bytes(8, "little") + b'{"a": {}}       ')
    assert told(tmp_path / "w.model").startswith("holds weights alone")


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
def test_archives_of_programs(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 4, 3).eval()
    torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "scripted.onnx"))
    assert told(tmp_path / "scripted.onnx").startswith("is a TorchScript archive")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)), tmp_path / "program.pt2")
    assert told(tmp_path / "program.pt2").startswith("is a program of torch.export")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.h5", b"\x89HDF\r\n\x1a\n", "is a Keras file"),
        ("net.pb", b"\x0a\x10\x0a\x05input", "is a TensorFlow graph"),
        ("saved", b"\x08\x01\x12\x90\x01", "is a TensorFlow graph"),
        ("net.mlmodel", b"\x08\x04\x12\x90\x0a\x05image", "is a Core ML model"),
        ("net", b"\x08\x04\x12\x20\x0a\x05image", "is a Core ML model"),
        ("net.pte", b"\x1c\x00\x00\x00ET12", "is an ExecuTorch program"),
        ("net.xml", b"<?xml version='1.0'?>", "is an OpenVINO model's description"),
        ("net.ipynb", b"{}", "is a notebook"),
        ("net.tar.gz", b"\x1f\x8b\x08", "is a packed archive"),
        ("net.pt", b"", "is empty"),
        ("net.pt", b"PK\x03\x04", "is a damaged archive"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert told(tmp_path / name).startswith(message)


def test_keras_archives_and_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    assert told(tmp_path / "net.zip").startswith("is a Keras file")
    folders = {"saved": "saved_model.pb", "net.mlpackage": "Manifest.json"}
    for folder, member in folders.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / member).write_bytes(b"")
    assert told(tmp_path / "saved").startswith("is a TensorFlow SavedModel")
    assert told(tmp_path / "net.mlpackage").startswith("is a Core ML package")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert told(tmp_path / "pipe.onnx").startswith("is no regular file")
    with pytest.raises(AuditError):
        load_target("n" * 5000 + ".onnx")
