"""Folders on disk: links, junk, and folders that can't be listed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mobilenets.data.datasets import load_dataset
from mobilenets.data.layout import read_folder
from mobilenets.errors import BadImagesError, DataError
from mobilenets.formatting import decodable

MakeFolder = Callable[[dict[str, int]], Path]


def test_a_folder_is_read(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 2, "dog": 0, ".cache": 3})
    (root / "cat" / "notes.txt").write_text("x")
    tree = read_folder(root)
    assert [parts for parts, _ in tree.files] == [("cat", "0.png"), ("cat", "1.png")]
    assert tree.folders == {("cat",), ("dog",)}
    assert tree.ignored == [("cat", "notes.txt")]
    source = tree.files[1][1]
    assert source.name == "cat/1.png"
    assert source.size == (root / "cat" / "1.png").stat().st_size
    assert source.read_size() == (8, 8)
    assert source.open().getpixel((0, 0)) == (1, 100, 200)


def test_links_are_followed_but_not_in_circles(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 2})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes((root / "cat" / "0.png").read_bytes())
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "loop").symlink_to(root)
    assert sorted(parts for parts, _ in read_folder(root).files) == [
        ("cat", "0.png"),
        ("cat", "1.png"),
        ("dog", "a.png"),
    ]


def test_a_dangling_link_is_a_bad_image(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 0})
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    ((_, source),) = read_folder(root).files
    with pytest.raises(BadImagesError, match=r"pets/cat/gone\.png: no such file"):
        source.open()


def test_names_that_are_no_utf_8(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    odd = os.fsencode(root) + b"/caf\xe9"
    try:
        os.mkdir(odd)  # noqa: PTH102 - pathlib takes no bytes
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for name in (b"/1.png", b"/\xff.png"):
        Path(os.fsdecode(odd + name)).write_bytes((root / "cat" / "1.png").read_bytes())
    Path(os.fsdecode(odd + b"/\xfe.png")).write_bytes(b"")
    tree = read_folder(root)
    assert ("caf\\xe9",) in tree.folders
    sources = {source.name: source for _, source in tree.files}
    assert sources["caf\\xe9/\\xff.png"].open().getpixel((0, 0)) == (1, 100, 200)
    with pytest.raises(BadImagesError) as caught:
        sources["caf\\xe9/\\xfe.png"].open()
    assert str(caught.value).encode()
    whole = load_dataset(Path(os.fsdecode(odd)).parent)
    assert whole.classes == ("caf\\xe9", "cat", "dog")
    root.rename(root.parent / os.fsdecode(b"p\xe9ts"))
    assert load_dataset(root.parent / os.fsdecode(b"p\xe9ts")).name == "p\\xe9ts"


def test_a_lone_surrogate_of_windows_is_decodable() -> None:
    assert decodable("a\ud800b").encode() == b"a\\xed\\xa0\\x80b"
    assert decodable("plain é") == "plain é"


def test_a_folder_that_cannot_be_listed(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"cat": 1, "dog": 1})

    def refuse(path: Path, real: Callable[[Path], object] = os.scandir) -> object:
        # The tests may run as root, whom no permission stops.
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"pets/dog can't be listed \(Permission denied\)"):
        read_folder(root)
