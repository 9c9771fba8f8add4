"""What lies in a folder: images, what is none, and what is never opened."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenets.cli.main import main
from mobilenets.data.datasets import load_dataset
from mobilenets.data.layout import read_folder
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.image_folders import FolderEntry, LeftOut, is_image_name, is_junk, list_folder, reads_heic
from mobilenets.images import inspect_image, open_image, read_file, read_size
from mobilenets.install import install_line
from mobilenets.runtime.image_files import find_images
from mobilenets.workflows.doctor import doctor

JUNK = (
    *("@eaDir", "$RECYCLE.BIN", "RECYCLER", "__MACOSX", "_MACOSX", ".ipynb_checkpoints", "System Volume Information"),
    *(".AppleDouble", "lost+found", "Thumbs.db", "ehthumbs.db", "desktop.ini", "._x.jpg", ".DS_Store", "#recycle"),
    *("LOST.DIR", "@__thumb", "__pycache__", "Temporary Items", "Network Trash Folder"),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            noise = np.random.default_rng(number + ord(name[0])).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def add_what_is_no_file(folder: Path) -> None:
    """A pipe, a socket, links to a pipe and to a device: each would be waited for, or never end."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "to-pipe.png").symlink_to("pipe.jpg")
    (folder / "zero.png").symlink_to("/dev/zero")
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)  # a socket's path may be no longer than a hundred letters
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("socket.jpg")
    finally:
        os.fchdir(here)
        os.close(here)


SPECIAL = {"pipe.jpg": "pipe", "to-pipe.png": "pipe", "zero.png": "device", "socket.jpg": "socket"}


def test_junk_is_no_class_and_no_image(photos: Path) -> None:
    for name in JUNK:
        assert is_junk(name), name
        assert is_junk(name.upper()), name
    for name in ("cat", "eaDir", "recycle", "lost", "thumbs", "a.jpg"):
        assert not is_junk(name)
    for name in ("@eaDir", "$RECYCLE.BIN", "__MACOSX", ".ipynb_checkpoints", "System Volume Information", "lost+found"):
        (photos / name).mkdir()
        Image.new("RGB", (9, 9)).save(photos / name / "x.png")
        (photos / "cat" / name).mkdir()
        Image.new("RGB", (9, 9)).save(photos / "cat" / name / "x.png")
    (photos / "cat/._1.jpg").write_bytes(b"x")
    dataset = load_dataset(photos)
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 12
    assert not any("left out" in note for note in dataset.notes)
    assert len(list(find_images([photos]))) == 12
    assert [one.name for one in doctor(photos).classes] == ["cat", "dog"]


def test_what_is_no_file_is_listed_and_never_opened(photos: Path) -> None:
    add_what_is_no_file(photos / "cat")
    entries = {entry.name: entry for entry in list_folder(photos / "cat")}
    for name, what in SPECIAL.items():
        assert entries[name] == FolderEntry(name, "special", what=what)
    tree = read_folder(photos)
    assert tree.special == {("cat", name): what for name, what in SPECIAL.items()}
    (note,) = [note for note in load_dataset(photos).notes if "left out" in note]
    assert note == "4 files left out: 2 pipe (cat), 1 device (cat), 1 socket (cat)"
    found = {finding.kind: finding for finding in doctor(photos).findings}
    assert {example.images[0]: example.note for example in found["not-files"].examples} == {
        f"cat/{name}": what for name, what in SPECIAL.items()
    }
    left_out = LeftOut()
    assert len(list(find_images([photos], left_out))) == 12
    assert str(left_out) == f"4 files left out: 2 pipe ({photos}/cat), 1 device ({photos}/cat), 1 socket ({photos}/cat)"


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_file_is_refused_where_it_is_named(tmp_path: Path, name: str) -> None:
    add_what_is_no_file(tmp_path)
    for read in (open_image, inspect_image, read_size, read_file):
        with pytest.raises(BadImagesError, match=f"it is a {SPECIAL[name]}"):
            read(tmp_path / name)


def test_a_pipe_named_to_predict_is_a_bad_image(
    tmp_path: Path, net: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_what_is_no_file(tmp_path)
    (photos / "cat/notes.txt").write_text("x")
    assert main(["predict", str(net), str(tmp_path / "pipe.jpg"), str(photos), "--json"]) == 1
    said = capsys.readouterr()
    assert said.out.count("\n") == 12
    assert "pipe.jpg: it is a pipe (FIFO), not a file" in said.err
    assert f"1 file left out: 1 .txt ({photos}/cat)" in said.err


@pytest.fixture
def net(tmp_path: Path) -> Path:
    from described import write_onnx

    return write_onnx(tmp_path / "net.onnx").path


def test_links_to_nothing_and_loops_are_unreadable_images(photos: Path) -> None:
    (photos / "cat/gone.png").symlink_to("nowhere.png")
    (photos / "cat/loop.png").symlink_to("loop.png")
    (photos / "cat/one.png").symlink_to("two.png")
    (photos / "cat/two.png").symlink_to("one.png")
    (photos / "cat/loop").symlink_to("loop")
    (photos / "cat/back").symlink_to("..", target_is_directory=True)
    entries = {entry.name: entry.kind for entry in list_folder(photos / "cat")}
    assert {entries[name] for name in ("gone.png", "loop.png", "one.png", "two.png")} == {"image"}
    assert entries["loop"] == "other"
    found = {finding.kind: finding for finding in doctor(photos).findings}
    bad = {example.images[0]: example.note for example in found["unreadable"].examples}
    assert bad["cat/gone.png"] == "no such file or directory"
    assert "symbolic links" in bad["cat/loop.png"]
    assert len([one for one in find_images([photos]) if isinstance(one, Path)]) == 12 + 4


def test_a_folder_or_file_that_vanishes_midway_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def vanishing(folder: Path) -> object:
        if Path(folder).name == "dog":
            raise FileNotFoundError(2, "No such file or directory")
        return real(folder)

    monkeypatch.setattr(os, "scandir", vanishing)
    with pytest.raises(DataError, match=r"dog can't be listed \(No such file or directory\)"):
        load_dataset(photos)
    with pytest.raises(DataError, match="can't be listed"):
        doctor(photos)
    found = list(find_images([photos]))
    assert found[-1] == BadImage(str(photos / "dog"), "folder can't be read: No such file or directory")
    monkeypatch.undo()
    tree = read_folder(photos)
    (photos / "cat/3.png").unlink()
    with pytest.raises(BadImagesError, match="no such file"):
        tree.files[3][1].open()


def test_files_left_out_are_listed_by_extension_and_class(photos: Path) -> None:
    for name in ("cat/a.txt", "cat/b.txt", "dog/c.txt", "dog/d.psd", "list.csv", "dog/README"):
        (photos / name).write_text("x")
    (note,) = [note for note in load_dataset(photos).notes if "left out" in note]
    assert (
        note
        == "6 files left out: 3 .txt (cat 2, dog 1), 1 .csv (the top folder), 1 .psd (dog), 1 without extension (dog)"
    )
    (found,) = [finding for finding in doctor(photos).findings if finding.kind == "other-files"]
    assert note in found.advice
    assert found.count == 6


def test_left_out_is_bounded_and_quotes_names() -> None:
    counted = LeftOut()
    for number in range(8):
        counted.add("x.txt", f"class{number}")
    assert str(counted).endswith("class4 1, 3 in 3 others)")
    hostile = LeftOut()
    hostile.add("x.\x1b[2J", "a\nb")
    assert "\x1b" not in str(hostile)
    assert "\n" not in str(hostile)
    again = LeftOut()
    again.merge(counted.counts())
    assert again.counts() == counted.counts()
    assert len(again) == 8


def heic_without_decoder() -> bytes:
    return b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf" + bytes(64)


def test_heic_without_its_decoder_says_what_to_install(
    photos: Path, net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("image_folders", "image_formats"):
        monkeypatch.setattr(f"mobilenets.{module}.reads_heic", lambda: False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    line = install_line("heic")
    assert line.startswith("pip install ")
    assert not is_image_name("a.heic")
    (photos / "dog/9.HEIC").write_bytes(heic_without_decoder())
    (photos / "dog/10.heif").write_bytes(heic_without_decoder())
    (note,) = [note for note in load_dataset(photos).notes if "left out" in note]
    assert note == f"2 files left out: 1 .heic (dog), 1 .heif (dog); to read .heic and .heif: {line}"
    (found,) = [finding for finding in doctor(photos).findings if finding.kind == "heic-files"]
    assert (found.severity, found.count, found.advice) == ("warning", 2, f"{line}, or convert them to JPEG")
    assert main(["predict", str(net), str(photos), "--json"]) == 0
    assert f"to read .heic and .heif: {line}" in capsys.readouterr().err
    with pytest.raises(BadImagesError, match="a HEIC picture, which takes pillow-heif to read: pip install"):
        open_image(photos / "dog/9.HEIC")


@pytest.mark.skipif(not reads_heic(), reason="pillow-heif is not installed: pip install '.[heic]'")
def test_heic_with_its_decoder_is_an_image_like_others(photos: Path) -> None:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(file)
    (photos / "cat/red.heic").write_bytes(file.getvalue())
    assert abs(np.asarray(open_image(photos / "cat/red.heic")).astype(int) - [255, 0, 0]).max() < 8
    assert len(load_dataset(photos).train) + len(load_dataset(photos).test) == 13
    with pytest.raises(BadImagesError):
        open_image(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
