"""Faults that the seeded folder has not: near-duplicates in two classes, floats, HEIC files, pipes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from seeded_folder import jpeg, picture, write_sound

from mobilenets.checkup.context import CheckContext
from mobilenets.checkup.examination import Examination
from mobilenets.checkup.folders import no_images
from mobilenets.checkup.inventory import Inventory
from mobilenets.checkup.results import DataIssue
from mobilenets.workflows.doctor import doctor


def found_in(folder: Path) -> dict[str, DataIssue]:
    return {issue.kind: issue for issue in doctor(folder).findings}


def test_near_duplicates_in_two_classes_are_shown_together(tmp_path: Path) -> None:
    write_sound(tmp_path / "photos")
    train = tmp_path / "photos" / "train"
    (train / "square" / "again.jpg").write_bytes(jpeg(Image.open(train / "disc" / "000.jpg"), 50))
    issue = found_in(tmp_path / "photos")["near-duplicates-across-classes"]
    assert [set(example.images) for example in issue.examples] == [{"train/disc/000.jpg", "train/square/again.jpg"}]
    assert issue.examples[0].note == "disc, square"


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_sound(tmp_path / "photos")
    disc = tmp_path / "photos" / "train" / "disc"
    os.mkfifo(disc / "pipe.jpg")
    issue = found_in(tmp_path / "photos")["not-files"]
    assert [example.images for example in issue.examples] == [("train/disc/pipe.jpg",)]


def test_the_white_of_float_images_is_said(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("low", "high"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(24):
            values = draw.uniform(0, 255, (32, 32)).astype(np.float32)
            Image.fromarray(values).save(tmp_path / "photos" / name / f"{number:02}.tiff")
    issue = found_in(tmp_path / "photos")["float-range"]
    assert issue.count == 48
    assert "is read as white" in issue.title


def test_images_of_usual_colours_have_no_issue_of_their_mode(tmp_path: Path) -> None:
    write_sound(tmp_path / "photos")
    for number, path in enumerate(sorted((tmp_path / "photos" / "train" / "disc").iterdir())):
        if number:
            picture(number + 500, "disc").convert("L").save(path.with_suffix(".png"))
            path.unlink()
    found = found_in(tmp_path / "photos")
    assert "mode-colour" not in found
    assert found["mode-grey"].count == 23


def test_heic_files_that_are_left_out_come_with_what_to_install() -> None:
    inventory = Inventory("photos", ("train",), (), {"train": ()}, ignored=("a/1.heic", "a/notes.txt"))
    issues = {issue.kind: issue for issue in no_images(CheckContext(inventory, Examination((), {}), (), ()))}
    assert [example.images for example in issues["heic-files"].examples] == [("a/1.heic",)]
    assert "[heic]" in issues["heic-files"].advice
    assert [example.images for example in issues["other-files"].examples] == [("a/notes.txt",)]
