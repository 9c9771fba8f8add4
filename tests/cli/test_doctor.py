from __future__ import annotations

import json
from pathlib import Path

import pytest
from seeded_folder import seed_faults, write_sound

from .conftest import Run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_sound(tmp_path / "photos", train=8, test=4)
    return tmp_path / "photos"


@pytest.mark.slow
def test_faults_are_fixed_by_a_list_and_trained_on(run: Run, call: Run, photos: Path, tmp_path: Path) -> None:
    seed_faults(photos)
    done = run("doctor", "photos", "--fix", "--out", "checkup")
    assert done.returncode == 1, done.stderr
    assert "error:   images that can't be read: 3" in done.stdout
    assert "images to leave out: 9, listed in checkup/exclude.txt" in done.stdout
    assert (tmp_path / "checkup" / "doctor.html").exists()

    for name in ("star", "only-here"):  # what no list can fix
        for split in ("train", "test"):
            for path in (photos / split / name).glob("*"):
                path.unlink()
            if (photos / split / name).exists():
                (photos / split / name).rmdir()
    train = ["train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "32", "--data", "photos"]
    train += ["--recipe", "quick", "--epochs", "1", "--batch-size", "8", "--precision", "float32", "--out", "run"]
    refused = call(*train)
    assert refused.returncode == 2
    assert "3 images can't be read" in refused.stderr
    trained = call(*train, "--exclude", "checkup/exclude.txt")
    assert trained.returncode == 0, trained.stderr
    assert "note: 9 images left out, as exclude.txt lists them" in trained.stderr


def test_sound_images_are_exit_code_0_and_json_is_all_of_it(call: Run, photos: Path) -> None:
    done = call("doctor", "photos", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["images"], record["splits"]) == (24, ["train", "test"])
    assert [finding["kind"] for finding in record["findings"]] == ["tiny-class"]


def test_bad_input_is_one_line_and_exit_code_2(call: Run, tmp_path: Path) -> None:
    done = call("doctor", "phots")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no 'phots'" in done.stderr


def test_the_rules_are_listed_without_data(call: Run) -> None:
    listed = call("doctor", "--list-rules")
    assert listed.returncode == 0, listed.stderr
    assert "  near-duplicates " in listed.stdout
    assert "unreadable" in [record["id"] for record in json.loads(call("doctor", "--list-rules", "--json").stdout)]
    missing = call("doctor")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


def test_ignored_rules_are_no_errors_and_are_named(call: Run, photos: Path) -> None:
    (photos / "train" / "disc" / "empty.jpg").write_bytes(b"")
    assert call("doctor", "photos").returncode == 1
    done = call("doctor", "photos", "--ignore", "unreadable,tiny-class")
    assert done.returncode == 0, done.stderr
    assert "ignored: unreadable, tiny-class" in done.stdout
    unknown = call("doctor", "photos", "--ignore", "unreadble")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "did you mean unreadable" in unknown.stderr
