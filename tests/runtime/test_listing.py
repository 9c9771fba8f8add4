import zipfile
from pathlib import Path

import pytest

from mobilenets.errors import BadImage
from mobilenets.formatting import decodable
from mobilenets.runtime.image_files import Listed, find_images, find_listed, list_parts


@pytest.fixture
def tree(tmp_path):
    for name in ("photos/b/2.png", "photos/a.jpg", "photos/b/1.png", "photos/notes.txt", "alone.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("given", ["photos", ".", "alone.bin", "absent", "photos/../photos/b"])
def test_names_are_those_given_and_paths_hold_anywhere(tree, monkeypatch, given):
    found = list(find_listed([Path(given)], tree))
    monkeypatch.chdir(tree)
    assert [item.name for item in found] == [decodable(str(path)) for path in find_images([Path(given)])]
    for item in found:
        assert Path(item.path) == tree / item.name


def test_a_folder_that_can_not_be_read_keeps_its_name(tree, monkeypatch):
    def refuse(paths):
        yield BadImage(str(tree / "photos/b"), "folder can't be read")

    monkeypatch.setattr("mobilenets.runtime.image_files.find_images", refuse)
    assert list(find_listed([Path("photos")], tree)) == [BadImage("photos/b", "folder can't be read")]


def test_parts_are_cut_in_order_and_told_apart(tree):
    parts = list(list_parts([Path("photos"), Path("alone.bin")], tree, 3))
    assert [part.number for part in parts] == [0, 1]
    assert [item.name for item in parts[0].found] == ["photos/a.jpg", "photos/b/1.png", "photos/b/2.png"]
    assert parts[1].found == (Listed("alone.bin", str(tree / "alone.bin")),)
    again = list(list_parts([Path("photos"), Path("alone.bin")], tree, 3))
    assert [part.digest for part in again] == [part.digest for part in parts]
    (tree / "photos/b/1.png").rename(tree / "photos/b/3.png")
    changed = list(list_parts([Path("photos"), Path("alone.bin")], tree, 3))
    assert changed[0].digest != parts[0].digest
    assert changed[1].digest == parts[1].digest
    assert list(list_parts([], tree, 3)) == []


def test_images_in_a_zip_are_listed_by_their_place_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("b/2.png", "a/1.png", "words.txt"):
            archive.writestr(name, b"content")
    assert list(find_listed([Path("photos.zip")], tmp_path)) == [
        Listed(f"photos.zip/{name}", str(tmp_path / "photos.zip"), name) for name in ("a/1.png", "b/2.png")
    ]
