"""Every fault of a seeded folder is found once, in the images it was put into; a sound folder has none."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from seeded_folder import jpeg, picture

from mobilenets.checkup import images
from mobilenets.checkup.inventory import take_inventory
from mobilenets.checkup.results import Checkup, Example, Extent, SideRange
from mobilenets.data.datasets import load_dataset
from mobilenets.data.sources import read_exclusions
from mobilenets.errors import DataError, RunError
from mobilenets.progress import Silent
from mobilenets.report.doctor import text_lines
from mobilenets.workflows.doctor import EXCLUSIONS, PAGE, RECORD, doctor

FOUND: dict[str, tuple[str, list[tuple[str, ...]]]] = {
    "unreadable": (
        "error",
        [("train/disc/empty.jpg",), ("train/disc/truncated.jpg",), ("train/square/text.png",)],
    ),
    "classes-differ": ("error", [("only-here",)]),
    "empty-class": ("error", [("test/star",)]),
    "duplicates-across-splits": ("error", [("test/disc/000.jpg", "train/disc/leaked.jpg")]),
    "duplicates-across-classes": ("error", [("train/disc/003.jpg", "train/square/wrong-label.jpg")]),
    "in-no-class": ("warning", [("train/loose.jpg",)]),
    "tiny-class": ("warning", [("only-here",), ("star",)]),
    "imbalance": ("warning", []),
    "duplicates": (
        "warning",
        [("train/disc/001.jpg", "train/disc/copy.jpg"), ("train/disc/002.jpg", "train/disc/other-bytes.png")],
    ),
    "near-duplicates-across-splits": ("warning", [("test/square/001.jpg", "train/square/compressed.jpg")]),
    "one-colour": ("warning", [("train/disc/blank.png",)]),
    "long": ("warning", [("train/disc/long.jpg",)]),
    "other-files": ("note", [("train/square/notes.txt",)]),
    "near-duplicates": ("note", [("train/square/004.jpg", "train/square/brighter.jpg")]),
    "rotated": ("note", [("train/disc/turned.jpg",)]),
    "small": ("note", [("train/disc/small.png",)]),
    "animated": ("note", [("train/square/moving.gif",)]),
    "mode-CMYK": ("note", [("train/disc/cmyk.jpg",)]),
    "mode-grey": ("note", [("train/disc/grey.png",)]),
    "mode-deep": ("note", [("train/square/deep.png",)]),
    "mode-palette": ("note", [("train/square/moving.gif",)]),
    "mode-transparent": ("note", [("train/square/transparent.png",)]),
}


def test_all_that_was_put_in_is_found_and_nothing_else(checkup: Checkup) -> None:
    found = {
        finding.kind: (finding.severity, [example.images for example in finding.examples])
        for finding in checkup.findings
    }
    assert found == FOUND
    assert [finding.severity for finding in checkup.findings] == sorted(
        (finding.severity for finding in checkup.findings), key=["error", "warning", "note"].index
    )
    assert all(finding.advice for finding in checkup.findings)


def test_counts_add_up(checkup: Checkup, seeded: Path) -> None:
    there = [path for path in seeded.rglob("*") if path.is_file() and path.suffix != ".txt"]
    assert checkup.images == len(there) - 1  # one lies in no class
    assert sum(sum(count.images) for count in checkup.classes) == checkup.images
    assert [count.name for count in checkup.classes] == ["disc", "only-here", "square", "star"]


def test_sizes_and_kinds_are_summed_up(checkup: Checkup) -> None:
    measures = checkup.measures
    assert measures is not None
    assert measures.width == Extent(20, 96, 400)
    assert measures.height == Extent(20, 96, 96)
    assert measures.shorter_side == (SideRange(16, 31, 1), SideRange(32, 63, 0), SideRange(64, 127, 82))
    assert dict(measures.formats) == {"JPEG": 76, "PNG": 6, "GIF": 1}
    assert dict(measures.modes) == {"RGB": 78, "CMYK": 1, "L": 1, "I;16": 1, "RGBA": 1, "P": 1}
    assert "20 to 400 pixels wide, 20 to 96 high" in list(text_lines(checkup))[1]


def test_a_sound_folder_has_nothing_but_its_few_images(sound: Path) -> None:
    checkup = doctor(sound)
    assert checkup.findings == ()
    assert checkup.excluded == ()


def test_a_zip_is_looked_at_like_the_folder(seeded: Path, checkup: Checkup, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(seeded.rglob("*")):
            file.write(path, path.relative_to(seeded))
    zipped = doctor(archive)
    assert [finding.kind for finding in zipped.findings] == [finding.kind for finding in checkup.findings]
    assert zipped.excluded == checkup.excluded


def test_what_to_leave_out_keeps_the_test_images_and_one_of_each(checkup: Checkup) -> None:
    assert [name for name, _ in checkup.excluded] == [
        "train/disc/003.jpg",
        "train/disc/copy.jpg",
        "train/disc/empty.jpg",
        "train/disc/leaked.jpg",
        "train/disc/other-bytes.png",
        "train/disc/truncated.jpg",
        "train/square/compressed.jpg",
        "train/square/text.png",
        "train/square/wrong-label.jpg",
    ]
    reasons = dict(checkup.excluded)
    assert reasons["train/disc/leaked.jpg"] == "the same image as test/disc/000.jpg"
    assert reasons["train/square/compressed.jpg"] == "looks like test/square/001.jpg, a test image"
    assert reasons["train/disc/truncated.jpg"].startswith("truncated")


def test_files_are_written_only_where_asked_and_the_images_never_touched(seeded: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in seeded.rglob("*") if path.is_file()}
    checkup = doctor(seeded, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [PAGE, RECORD]
    assert doctor(seeded, tmp_path / "out", fix=True).excluded == checkup.excluded
    assert read_exclusions(tmp_path / "out" / EXCLUSIONS) == dict(checkup.excluded)
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert len(record["findings"]) == len(checkup.findings)
    assert {path: path.read_bytes() for path in seeded.rglob("*") if path.is_file()} == before


def test_progress_tells_both_long_parts(sound: Path) -> None:
    told: list[tuple[str, int, int]] = []

    class Recorded(Silent):
        def update(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    doctor(sound, progress=Recorded())
    pairs = 48 * 48 + 48 * 16 + 16 * 16
    assert told[-1] == ("comparing pairs of images", pairs, pairs)
    assert ("looking at images", 64, 64) in told


def test_bad_input_is_one_line(tmp_path: Path, sound: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        doctor(tmp_path / "missing")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        doctor(__file__)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        doctor(tmp_path / "empty")
    with pytest.raises(RunError, match="lies within the images"):
        doctor(sound, sound / "train")


@pytest.mark.slow
def test_data_sets_of_packages_are_looked_at_too() -> None:
    checkup = doctor("digits")
    assert (checkup.images, checkup.splits) == (1797, ("train", "test"))
    assert not checkup.count("error")


def test_an_unsplit_folder_is_looked_at_as_training_splits_it(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for kind in ("disc", "square"):
        (folder / kind).mkdir(parents=True)
        for number in range(25):
            (folder / kind / f"{number:02d}.jpg").write_bytes(jpeg(picture(number, kind)))
    dataset = load_dataset(folder)
    inventory = take_inventory(folder)
    assert inventory.drawn
    for split, part in (("train", dataset.train), ("test", dataset.test)):
        named = [(entry.name, entry.label) for entry in inventory.entries if entry.split == split]
        labels = [dataset.classes[label] for label in part.labels]
        assert named == [(source.name, label) for source, label in zip(part.sources, labels, strict=True)]
    # A shot of a test image leaks whatever its name; two of one split do not.
    tested = folder / dataset.test.sources[0].name
    trained = [source.name for source in dataset.train.sources if source.name.startswith("disc")]
    (folder / trained[0]).write_bytes(jpeg(Image.open(tested), 50))
    (folder / trained[1]).write_bytes((folder / trained[2]).read_bytes())
    checkup = doctor(folder)
    found = {finding.kind: [example.images for example in finding.examples] for finding in checkup.findings}
    assert found["near-duplicates-across-splits"] == [(dataset.test.sources[0].name, trained[0])]
    assert [set(group) for group in found["duplicates"]] == [{trained[1], trained[2]}]
    assert [name for name, _ in checkup.excluded] == [trained[0], trained[2]]
    again = load_dataset(folder)
    split = f"{len(again.train)} to train, {len(again.test)} to test as training splits them"
    assert split in next(iter(text_lines(checkup)))


REFUSED = {
    "no test": ("train/a/1.png train/b/1.png", "has train/ but no test/ or val/"),
    "no train": ("test/a/1.png test/b/1.png", "has test/ but no train/"),
    "one class": ("a/1.png a/2.png", "one class only"),
    "no class": ("1.png 2.png", "no class folders"),
    "one image": ("a/1.png a/2.png b/1.png", "has 1 image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_training_refuses_are_looked_at_all_the_same(case: str, tmp_path: Path) -> None:
    names, why = REFUSED[case]
    for number, name in enumerate(names.split()):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, "disc").save(path)
    with pytest.raises(DataError, match=why):
        load_dataset(tmp_path / "photos")
    checkup = doctor(tmp_path / "photos", tmp_path / "out")
    [refused] = [finding for finding in checkup.findings if finding.kind == "refused"]
    assert refused.severity == "error"
    assert why in refused.advice
    assert checkup.images == (0 if case == "no class" else len(names.split()))


def test_folders_beside_the_splits_are_told(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    (tmp_path / "photos" / "unsorted").mkdir()
    (tmp_path / "photos" / "unsorted" / "1.jpg").write_bytes(jpeg(picture(9, "disc")))
    [found] = doctor(tmp_path / "photos").findings
    assert (found.kind, found.examples[0].images) == ("not-read", ("unsorted",))


def test_a_link_to_nowhere_and_a_broken_member_are_unreadable_images(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "disc" / "gone.jpg").symlink_to("/nowhere")
    [found] = doctor(tmp_path / "photos").findings
    assert found.examples == (Example(("train/disc/gone.jpg",), "no such file or directory"),)
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(sound.rglob("*.jpg")):
            file.write(path, path.relative_to(sound))
    content = archive.read_bytes()
    whole = (sound / "train" / "disc" / "000.jpg").read_bytes()
    archive.write_bytes(content.replace(whole, whole[:-9] + bytes(9), 1))
    [found] = doctor(archive).findings
    assert found.examples[0].images == ("train/disc/000.jpg",)
    assert found.examples[0].note.startswith("damaged in the zip")


def test_a_class_without_a_good_image_is_an_error_before_the_list_is_used(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    for path in (tmp_path / "photos" / "test" / "disc").iterdir():
        path.write_bytes(b"")
    checkup = doctor(tmp_path / "photos", tmp_path / "out", fix=True)
    found = {finding.kind: finding.examples for finding in checkup.findings}
    assert found["class-emptied"] == (Example(("disc",), "in test"),)
    with pytest.raises(DataError, match="class disc has none to test on"):
        load_dataset(tmp_path / "photos", exclude=tmp_path / "out" / EXCLUSIONS)


def test_the_same_picture_in_two_classes_and_both_splits_leaves_the_test_image(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    tested = tmp_path / "photos" / "test" / "disc" / "000.jpg"
    for name in ("square/a.jpg", "disc/a.jpg"):
        shutil.copyfile(tested, tmp_path / "photos" / "train" / name)
    checkup = doctor(tmp_path / "photos")
    assert {finding.kind for finding in checkup.findings} == {"duplicates-across-splits", "duplicates-across-classes"}
    assert [name for name, _ in checkup.excluded] == ["train/disc/a.jpg", "train/square/a.jpg"]


def test_validation_images_of_their_own_stay_before_training_and_go_before_test_images(
    sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    shutil.copytree(sound / "test", tmp_path / "photos" / "val")
    for kind in ("disc", "square"):
        for number in range(8):
            (tmp_path / "photos" / "val" / kind / f"{number:03d}.jpg").write_bytes(jpeg(picture(2000 + number, kind)))
    first, second = (tmp_path / "photos" / "val" / "disc" / f"00{number}.jpg" for number in (1, 2))
    shutil.copyfile(first, tmp_path / "photos" / "train" / "disc" / "new.jpg")
    second.write_bytes(jpeg(Image.open(tmp_path / "photos" / "test" / "disc" / "003.jpg"), 50))
    checkup = doctor(tmp_path / "photos", tmp_path / "out", fix=True)
    assert checkup.splits == ("train", "validation", "test")
    found = {finding.kind: [example.images for example in finding.examples] for finding in checkup.findings}
    assert found == {
        "duplicates-across-splits": [("val/disc/001.jpg", "train/disc/new.jpg")],
        "near-duplicates-across-splits": [("test/disc/003.jpg", "val/disc/002.jpg")],
    }
    assert [name for name, _ in checkup.excluded] == ["train/disc/new.jpg", "val/disc/002.jpg"]
    dataset = load_dataset(tmp_path / "photos", exclude=tmp_path / "out" / EXCLUSIONS)
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (48, 15, 16)


def test_huge_pictures_and_numbered_classes_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HUGE_PIXELS", 96 * 96)
    for name in ("2", "10"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(26):
            picture(number, name).save(tmp_path / "photos" / name / f"{number}.jpg")
    picture(99, "2", (97, 96)).save(tmp_path / "photos" / "2" / "huge.jpg")
    found = {finding.kind: finding for finding in doctor(tmp_path / "photos").findings}
    assert set(found) == {"class-order", "huge"}
    assert found["huge"].examples == (Example(("2/huge.jpg",), "97x96"),)


def test_classes_of_data_in_memory_keep_their_order(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    other = replace(digits, classes=tuple(reversed(digits.classes)))
    assert [count.name for count in doctor(other).classes] == list(other.classes)


def test_names_that_a_terminal_would_obey_are_shown_quoted(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "disc" / "a\x1b[2J\nb.jpg").write_bytes(b"")
    lines = list(text_lines(doctor(tmp_path / "photos")))
    assert any('"train/disc/a\\u001b[2J\\nb.jpg": empty file' in line for line in lines)
    assert all(line.isprintable() for line in lines)
