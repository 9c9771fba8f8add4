"""Every fault of a seeded folder is found once, in the images it was put into; a sound folder has none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from mobilenets.checkup.doctor import EXCLUSIONS, PAGE, RECORD, doctor
from mobilenets.checkup.results import Checkup
from mobilenets.data.exclusion import read_exclusions
from mobilenets.errors import DataError, RunError

FOUND: dict[str, tuple[str, list[tuple[str, ...]]]] = {
    "unreadable": (
        "error",
        [("train/disc/empty.jpg",), ("train/disc/truncated.jpg",), ("train/square/text.png",)],
    ),
    "classes-differ": ("error", [("only-here",)]),
    "empty-class": ("error", [("test/star",)]),
    "same-across-splits": ("error", [("test/disc/000.jpg", "train/disc/leaked.jpg")]),
    "same-two-classes": ("error", [("train/disc/003.jpg", "train/square/wrong-label.jpg")]),
    "in-no-class": ("warning", [("train/loose.jpg",)]),
    "tiny-class": ("warning", [("only-here",), ("star",)]),
    "imbalance": ("warning", []),
    "same": (
        "warning",
        [("train/disc/001.jpg", "train/disc/copy.jpg"), ("train/disc/002.jpg", "train/disc/other-bytes.png")],
    ),
    "alike-across-splits": ("warning", [("test/square/001.jpg", "train/square/compressed.jpg")]),
    "one-colour": ("warning", [("train/disc/blank.png",)]),
    "long": ("warning", [("train/disc/long.jpg",)]),
    "other-files": ("note", [("train/square/notes.txt",)]),
    "alike": ("note", [("train/square/004.jpg", "train/square/brighter.jpg")]),
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
    assert reasons["train/disc/leaked.jpg"] == "the same picture as test/disc/000.jpg"
    assert reasons["train/square/compressed.jpg"] == "looks like test/square/001.jpg, which tests"
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
    doctor(sound, progress=lambda *one: told.append(one))
    assert told[-1] == ("comparing images", 64, 64)
    assert ("looking at images", 64, 64) in told


def test_bad_input_is_one_line(tmp_path: Path, sound: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        doctor(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        doctor(tmp_path / "empty")
    with pytest.raises(RunError, match="lies within the images"):
        doctor(sound, sound / "train")


def test_data_sets_of_packages_are_looked_at_too() -> None:
    checkup = doctor("digits")
    assert (checkup.images, checkup.splits) == (1797, ("train", "test"))
    assert not checkup.count("error")
