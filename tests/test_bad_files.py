"""Each file read from outside: missing, a folder, pipe or device, empty, cut short, not permitted. One line each."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilenets.errors import MobilenetsError, other_format

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from fuzz_readers import READERS

ROWS = (
    *("model.json", "model.safetensors", "checkpoint", "recipe", "artifact", "TFLite artifact", "OpenVINO folder"),
    *("audited ONNX", "audited TFLite", "TFLite weights", "trained_images.npz", "predictions.npz", "state.pt"),
)
FOLDER_IS_ANOTHER_FORM = {"artifact", "TFLite artifact", "checkpoint", "TFLite weights"}
"""Of weights and exported files a folder can be one too: it is looked into, and lacks what it would have."""


def _state(folder: Path) -> Path:
    torch.save({"format": 1}, folder / "state.pt")
    return folder / "state.pt"


def _read_state(path: Path) -> None:
    from mobilenets.training.checkpoints import load_state

    load_state(path.parent, torch.device("cpu"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """A sound file of each kind and its reader."""
    made: dict[str, tuple[Path, Callable[[Path], object]]] = {}
    for reader in READERS:
        if reader.name in ROWS:
            made[reader.name] = next(iter(reader.seeds(tmp_path_factory.mktemp("sound")))), reader.read
    made["state.pt"] = _state(tmp_path_factory.mktemp("state")), _read_state
    return made


@pytest.fixture
def bounded() -> Iterator[None]:
    """A reader that waits ends the test."""

    def ring(number: int, frame: object) -> None:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _refusal(path: Path, read: Callable[[Path], object], put: Callable[[Path, bytes], None]) -> str:
    """What is said with something else in the file's place; then it is put back."""
    content = path.read_bytes()
    path.unlink()
    try:
        put(path, content)
        with pytest.raises(MobilenetsError) as caught:
            read(path)
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(content)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert path.name in message or str(path.parent) in message
    assert "[Errno" not in message
    return message


IN_PLACE: dict[str, tuple[Callable[[Path, bytes], None], tuple[str, ...]]] = {
    "pipe": (lambda path, content: os.mkfifo(path), ("it is a pipe",)),
    "device": (lambda path, content: path.symlink_to("/dev/zero"), ("it is a device",)),
    "folder": (lambda path, content: path.mkdir(), ("it is a folder",)),
    "empty": (lambda path, content: path.write_bytes(b"") and None, ("empty", "0 bytes")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("what", IN_PLACE)
def test_what_is_wrong_is_said_in_its_own_words(
    name: str, what: str, sound: dict[str, tuple[Path, Callable[[Path], object]]], bounded: None
) -> None:
    if what == "folder" and name in FOLDER_IS_ANOTHER_FORM:
        pytest.skip("a folder is another form of it")
    path, read = sound[name]
    put, said = IN_PLACE[what]
    message = _refusal(path, read, put)
    assert any(words in message for words in said), message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_files_not_permitted_are_not_called_damaged_or_missing(
    name: str, sound: dict[str, tuple[Path, Callable[[Path], object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = sound[name]

    def denying(opened: Callable[..., object]) -> Callable[..., object]:
        def deny(file: object, *arguments: object, **options: object) -> object:
            if isinstance(file, str | Path) and str(file) == str(path):
                raise PermissionError(13, "Permission denied", str(file))
            return opened(file, *arguments, **options)

        return deny

    monkeypatch.setattr(os, "open", denying(os.open))  # root may read everything: no mode of a file denies it
    monkeypatch.setattr(io, "open", denying(io.open))
    with pytest.raises(MobilenetsError, match="Permission denied") as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not any(words in message for words in ("damaged", "missing", "does not exist", "[Errno"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_files_cut_short_are_refused(
    name: str, sound: dict[str, tuple[Path, Callable[[Path], object]]], bounded: None
) -> None:
    path, read = sound[name]
    for share in (0.3, 0.9):
        _refusal(path, read, lambda path, content, share=share: path.write_bytes(content[: int(share * len(content))]))  # type: ignore[misc]


def test_the_parts_of_an_openvino_folder_are_looked_at_too(
    sound: dict[str, tuple[Path, Callable[[Path], object]]], bounded: None
) -> None:
    description, read = sound["OpenVINO folder"]
    for part in ("model.xml", "model.bin"):
        for what in ("pipe", "device", "folder"):
            put, (said, *_) = IN_PLACE[what]
            assert said in _refusal(description.with_name(part), lambda path: read(description), put)


@pytest.mark.parametrize("claim", [(10**18,), (10**12, 3), (5, 10**9)], ids=str)
def test_arrays_are_not_believed_what_they_claim(claim: tuple[int, ...], tmp_path: Path) -> None:
    import zipfile

    from mobilenets.limits import read_arrays

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": claim})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", head.getvalue() + bytes(60))
    with pytest.raises(ValueError, match=r"a claims [\d,]+ bytes, and has 188"):
        read_arrays(tmp_path / "a.npz", "a")


def test_an_archive_of_arrays_that_grows_a_thousandfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mobilenets import limits

    monkeypatch.setattr(limits, "MAX_UNPACKED_BYTES", 2**10)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6, np.float32))
    with pytest.raises(ValueError, match="its arrays have 4,000,128 bytes, more than the"):
        limits.read_arrays(tmp_path / "a.npz", "a")


def test_arrays_are_what_numpy_wrote(tmp_path: Path) -> None:
    from mobilenets.limits import read_arrays

    np.savez(tmp_path / "a.npz", a=np.arange(6).reshape(2, 3), b=np.array([b"x"]), c=np.array([{}], object))
    found = read_arrays(tmp_path / "a.npz", "a", "b")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [b"x"]
    for name, said in (("c", "claims|Object arrays"), ("d", "There is no item")):
        with pytest.raises(ValueError, match=said):
            read_arrays(tmp_path / "a.npz", name)


@pytest.mark.parametrize("offsets", [1.5, [], "x", [0], [0, 1.0], [0, 4, 8], None], ids=str)
def test_offsets_of_tensors_that_are_none(offsets: object, tmp_path: Path) -> None:
    from mobilenets.models.weights.read import read_weights

    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(MobilenetsError, match=r"model\.safetensors is damaged \(data_offsets that are no two"):
        read_weights(path)


def test_a_format_of_several_lines_is_one_short_line() -> None:
    assert other_format("a\nb", 1, "train again") == r"is of format a\nb, not 1; train again"
    assert len(other_format("x" * 10_000, 1, "train again")) < 100
