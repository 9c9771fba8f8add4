"""Which folders are classes, which are parts, and what is said when neither is so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mobilenets.data.layout import Layout, find_layout, read_folder
from mobilenets.errors import DataError
from mobilenets.image_folders import is_image_name, is_junk, reads_heic
from mobilenets.install import install_line

MakeFolder = Callable[[dict[str, int]], Path]


def layout(root: Path) -> Layout:
    return find_layout(read_folder(root))


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        layout(root)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(root), "pets")


def names(found: Layout) -> list[str]:
    return [source.name for source in found.train.sources]


def test_a_plain_folder_of_classes(make_folder: MakeFolder) -> None:
    found = layout(make_folder({"dog": 2, "cat": 3}))
    assert found.classes == ("cat", "dog")
    assert names(found) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.test is None
    assert found.notes == ()


def test_classes_are_in_plain_order_of_names(make_folder: MakeFolder) -> None:
    assert layout(make_folder({"2": 2, "10": 2, "B": 2, "a": 2})).classes == ("10", "2", "B", "a")


def test_images_deeper_in_a_class(make_folder: MakeFolder) -> None:
    assert names(layout(make_folder({"cat/black": 1, "cat": 1, "dog/big/old": 2})))[:2] == [
        "cat/0.png",
        "cat/black/0.png",
    ]


@pytest.mark.parametrize("scored", ["test", "val", "Test", "validation"])
def test_parts(make_folder: MakeFolder, scored: str) -> None:
    found = layout(make_folder({"train/cat": 3, "train/dog": 1, f"{scored}/cat": 1, f"{scored}/dog": 2}))
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [0, 0, 0, 1]
    assert found.test is not None
    assert found.test.labels.tolist() == [0, 1, 1]
    assert found.test.sources[0].name == f"{scored}/cat/0.png"


def parts(**more: int) -> dict[str, int]:
    return {f"{part}/{name}": 2 for part in ("train", "test") for name in ("cat", "dog")} | more


def test_both_test_and_val(make_folder: MakeFolder) -> None:
    found = layout(make_folder(parts() | {"val/cat": 5, "val/dog": 5}))
    assert found.test is not None
    assert len(found.test) == 4
    assert found.validation is not None
    assert found.validation.labels.tolist() == [0] * 5 + [1] * 5
    assert found.notes == ("val/ holds the validation images, test/ is scored at the end",)


def test_unlabelled_validation_images_are_unused(make_folder: MakeFolder) -> None:
    found = layout(make_folder(parts() | {"val": 3}))
    assert found.validation is None
    assert found.notes == ("val/ is unused, for its images have no class folders: test/ is scored",)


def test_validation_images_of_other_classes_are_refused(make_folder: MakeFolder) -> None:
    assert "train/ and val/ of pets have different classes (only in train/: cat; only in val/: emu)" in refusal(
        make_folder(parts() | {"val/emu": 2, "val/dog": 2})
    )


def test_unlabelled_test_images_beside_val(make_folder: MakeFolder) -> None:
    found = layout(make_folder({"train/cat": 2, "train/dog": 2, "test": 9, "val/cat": 1, "val/dog": 2}))
    assert found.test is not None
    assert len(found.test) == 3
    assert "val/ is scored" in found.notes[0]


def test_wrapping_folders_are_descended(make_folder: MakeFolder) -> None:
    root = make_folder({"a/b/cat": 2, "a/b/dog": 2})
    found = layout(root)
    assert found.classes == ("cat", "dog")
    assert found.notes == (f"read from {root}/a/b, the only folder in {root}",)


def test_notes_count_what_is_left_out(make_folder: MakeFolder) -> None:
    root = make_folder(parts())
    for name in (
        "readme.txt",
        "train/cat/list.csv",
        "train/stray.png",
        "extra.png",
        ".DS_Store",
        "train/cat/Thumbs.db",
    ):
        (root / name).write_bytes(b"x")
    assert layout(root).notes == (
        "2 files left out: 1 .csv (train/cat), 1 .txt (the top folder)",
        f"beside train/ and test/, nothing else in {root} is read",
        f"1 image in {root}/train but in no class folder left out",
    )


def test_trains_may_be_a_class(make_folder: MakeFolder) -> None:
    assert layout(make_folder({"bus": 2, "train": 2})).classes == ("bus", "train")


@pytest.mark.parametrize(("counts", "message"), [
    ({}, "pets holds no images: give a folder"),
    ({"cat": 0, "dog": 0}, "pets holds no images"),
    ({".": 3}, "pets holds images but no class folders"),
    ({"cat": 5}, "pets has one class only (cat)"),
    ({"cat": 5, "dog": 0}, "class folder pets/dog is empty"),
    ({"cat": 5, "dog": 1}, "class folder pets/dog has 1 image: a class needs at least 2"),
    ({"train/cat": 2, "train/dog": 2}, "pets has train/ but no test/ or val/: add one"),
    ({"test/cat": 2, "test/dog": 2}, "pets has test/ but no train/"),
    ({"train": 4, "test": 4}, "pets/train holds images but no class folders"),
    ({"train/cat": 2, "train/dog": 2, "test": 4}, "pets/test holds images but no class folders"),
    ({"train/cat": 2, "train/dog": 2, "test": 0}, "pets/test holds no images"),
    ({"train/cat": 2, "test/cat": 2}, "pets/train has one class only (cat)"),
    (parts() | {"test/emu": 1}, "train/ and test/ of pets have different classes (only in test/: emu)"),
    (parts() | {"train/emu": 1, "train/fox": 1}, "different classes (only in train/: emu, fox)"),
    (parts() | {"train/emu": 1, "test/fox": 1}, "(only in train/: emu; only in test/: fox)"),
    (parts() | {"train/emu": 1, "test/emu": 0}, "class folder pets/test/emu is empty"),
])  # fmt: skip
def test_refusals(make_folder: MakeFolder, counts: dict[str, int], message: str) -> None:
    assert message in refusal(make_folder(counts))


def test_files_that_are_no_images_are_named(make_folder: MakeFolder) -> None:
    root = make_folder({"wrap/cat": 2, "wrap/dog": 0})
    raw = "cr2" if reads_heic() else "heic"
    for name in (f"1.{raw}", f"2.{raw.upper()}", "inner.tga"):
        (root / "wrap" / "dog" / name).write_bytes(b"x")
    files = f"no image that can be read: 2 files .{raw}, 1 file .tga; "
    if not reads_heic():
        files += f"to read .heic: {install_line('heic')}, or "
    assert f"class folder pets/wrap/dog has {files}convert pictures to JPEG" in refusal(root)
    for name in ("0.png", "1.png"):
        (root / "wrap" / "cat" / name).unlink()
    assert f"pets/wrap has {files}convert" in refusal(root)


def test_names_of_images_and_junk() -> None:
    assert all(map(is_image_name, ["a.jpg", "b.JPEG", "c.d.png", "e.tif"]))
    assert not any(map(is_image_name, ["a.txt", "jpg", "a.npy", "b.jpg.part"]))
    assert all(map(is_junk, [".git", ".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini"]))
    assert not is_junk("cat")
