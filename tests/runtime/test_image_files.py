import os

import pytest

from mobilenets.errors import BadImage
from mobilenets.formatting import printable
from mobilenets.image_folders import SUFFIXES, is_image_name
from mobilenets.runtime.image_files import find_images


@pytest.fixture
def tree(tmp_path):
    names = [
        "b/2.jpg",
        "b/10.PNG",
        "b/notes.txt",
        "a.webp",
        ".hidden.jpg",
        "b/.thumbs/1.jpg",
        "__MACOSX/1.jpg",
        "c/d/e.tif",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_are_searched_in_order_and_junk_is_left(tree):
    found = [path.relative_to(tree).as_posix() for path in find_images([tree])]
    assert found == ["a.webp", "b/10.PNG", "b/2.jpg", "c/d/e.tif"]


def test_named_files_are_taken_whatever_they_are_called(tree):
    named = [tree / "b/notes.txt", tree / "absent", tree / "c"]
    assert list(find_images(named)) == [*named[:2], tree / "c/d/e.tif"]


def test_a_link_back_ends(tree):
    (tree / "c/d/back").symlink_to(tree, target_is_directory=True)
    (tree / "c/other").symlink_to(tree / "b", target_is_directory=True)
    found = [path.relative_to(tree).as_posix() for path in find_images([tree])]
    assert found == ["a.webp", "b/10.PNG", "b/2.jpg", "c/d/e.tif", "c/other/10.PNG", "c/other/2.jpg"]


def test_a_folder_is_looked_into_only_when_it_is_its_turn(tree):
    found = find_images([tree])
    assert next(found).name == "a.webp"
    (tree / "c/late.png").touch()
    assert "late.png" in [path.name for path in found]


def test_a_folder_that_can_not_be_read_is_listed(tree, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if folder == tree / "b":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    found = list(find_images([tree]))
    assert found[1] == BadImage(str(tree / "b"), "folder can't be read: Permission denied")
    assert len(found) == 3


def test_names_that_are_no_text_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    printable(tmp_path / name).encode()
    assert printable(tmp_path / "né.png") == str(tmp_path / "né.png")


def test_suffixes_are_those_of_data_sets():
    assert all(is_image_name(f"x{suffix}") for suffix in SUFFIXES)
    assert not any(is_image_name(f"x{suffix}") for suffix in (".txt", ".zip", ".pdf", ".svg", ""))
