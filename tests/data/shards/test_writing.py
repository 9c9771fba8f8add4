"""What is written is what was given; a stopped writer goes on; bad images and full disks are one line."""

from __future__ import annotations

import io
import resource
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenets import shard
from mobilenets.checkup.inventory import take_inventory
from mobilenets.data.datasets import load_dataset
from mobilenets.data.shards.reading import read_shard
from mobilenets.errors import BadImagesError, DataError, RunError

MakeFolder = Callable[[dict[str, int]], Path]
PETS = {"train/cat": 7, "train/dog": 5, "test/cat": 2, "test/dog": 3}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_reading_back_gives_the_source(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    (root / "train/cat/3.png").rename(root / "train/cat/a.b über.JPEG")
    index = shard(root, tmp_path / "out", images_per_shard=5)
    assert [(entry.name, entry.split, entry.images) for entry in index.shards] == [
        ("train-000000.tar", "train", 5),
        ("train-000001.tar", "train", 5),
        ("train-000002.tar", "train", 2),
        ("test-000000.tar", "test", 5),
    ]
    assert index.class_counts == {"train": (7, 5), "test": (2, 3)}
    assert sorted(contents(tmp_path / "out")) == ["index.json", *sorted(entry.name for entry in index.shards)]
    records = [record for entry in index.part("train") for record in read_shard(str(tmp_path / "out" / entry.name))]
    written = Counter((index.classes[int(record.label)], record.content) for record in records)
    given = Counter((path.parent.name, path.read_bytes()) for path in root.glob("train/*/*"))
    assert written == given
    assert "_train_cat_a_b_ber.jpeg" in " ".join(record.name for record in records)
    assert all(entry.bytes == (tmp_path / "out" / entry.name).stat().st_size for entry in index.shards)


@pytest.mark.slow
def test_shards_mix_classes_and_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    shard("digits", tmp_path / "one")
    shard("digits", tmp_path / "two")
    shard("digits", tmp_path / "three", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")
    digits = load_dataset("digits")
    first = list(read_shard(str(tmp_path / "one" / "train-000000.tar")))
    assert len(first) == 180
    assert set(Counter(record.label for record in first).values()) <= set(range(8, 32))
    pixels = {np.asarray(source.open()).tobytes() for source in digits.train.sources}
    assert all(np.asarray(record.open()).tobytes() in pixels for record in first)


def test_a_finished_folder_is_left_and_another_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    index = shard(root, tmp_path / "out", images_per_shard=5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert shard(root, tmp_path / "out", images_per_shard=5) == index
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(RunError, match=r"out/index\.json is of other images or options; choose another folder"):
        shard(root, tmp_path / "out", images_per_shard=6)
    (tmp_path / "out" / "train-000001.tar").unlink()
    with pytest.raises(RunError, match=r"train-000001\.tar is missing or damaged; remove"):
        shard(root, tmp_path / "out", images_per_shard=5)
    (tmp_path / "out" / "index.json").unlink()
    with pytest.raises(RunError, match=r"out holds test-000000\.tar, of which nothing is known"):
        shard(root, tmp_path / "out", images_per_shard=5)


def test_bad_images_are_all_listed_and_the_rest_goes_on_without_them(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    for name in ("train/cat/3.png", "test/dog/0.png"):
        (root / name).write_bytes(b"broken")
    with pytest.raises(BadImagesError) as caught:
        shard(root, tmp_path / "out", images_per_shard=5)
    assert [image.name for image in caught.value.bad] == [str(root / "train/cat/3.png"), str(root / "test/dog/0.png")]
    assert not (tmp_path / "out" / "index.json").exists()
    with pytest.raises(DataError, match="is not sharded to its end"):
        load_dataset(tmp_path / "out")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(kept) == 2
    index = shard(root, tmp_path / "out", images_per_shard=5, skip_bad=True)
    assert (index.images("train"), index.images("test")) == (11, 4)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not (tmp_path / "out" / "index.part.jsonl").exists()


def test_a_class_that_is_lost_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train/cat": 4, "train/dog": 1, "test/cat": 1, "test/dog": 1})
    (root / "train/dog/0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="no train image of class dog can be read"):
        shard(root, tmp_path / "out", images_per_shard=5, skip_bad=True)


def test_other_options_do_not_go_on_with_unfinished_shards(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    (root / "train/cat/3.png").write_bytes(b"broken")
    with pytest.raises(BadImagesError):
        shard(root, tmp_path / "out", images_per_shard=5)
    with pytest.raises(RunError, match="out holds unfinished shards of other images or options"):
        shard(root, tmp_path / "out", images_per_shard=4)
    # A line torn by a crash: its shard is written again.
    journal = tmp_path / "out" / "index.part.jsonl"
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join(lines)[:-9])
    assert shard(root, tmp_path / "out", images_per_shard=5, skip_bad=True).images("train") == 11


def test_large_images_are_reduced_and_small_ones_copied(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number, size in enumerate([(90, 60), (16, 20), (40, 200)]):
                Image.new("RGB", size, (200, 50, 50)).save(tmp_path / "photos" / split / name / f"{number}.png")
    shard(tmp_path / "photos", tmp_path / "out", image_size=32, images_per_shard=6)
    data = load_dataset(tmp_path / "out")
    sizes = sorted(Counter(source.read_size() for source in data.test.sources).items())
    assert sizes == [((16, 20), 2), ((32, 160), 2), ((48, 32), 2)]
    records = list(read_shard(str(tmp_path / "out" / "test-000000.tar")))
    formats = {Image.open(io.BytesIO(record.content)).format for record in records}
    assert formats == {"JPEG", "PNG"}


def test_a_full_disk_is_one_line_and_loses_nothing(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"train-000000\.tar: can't be written \(File too large\)"):
            shard(root, tmp_path / "out", images_per_shard=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(contents(tmp_path / "out")) == ["index.part.jsonl"]
    assert shard(root, tmp_path / "out", images_per_shard=5).images("train") == 12


def test_listed_images_are_left_out_while_sharding_and_not_later(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    (tmp_path / "exclude.txt").write_text("train/cat/3.png\n")
    index = shard(root, tmp_path / "out", exclude=tmp_path / "exclude.txt")
    assert index.images("train") == 11
    with pytest.raises(DataError, match="out is shards, which are read whole"):
        load_dataset(tmp_path / "out", exclude=tmp_path / "exclude.txt")
    with pytest.raises(DataError, match="out is shards: give the images they were made of"):
        take_inventory(tmp_path / "out")


def test_what_can_not_be_sharded(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(PETS)
    with pytest.raises(RunError, match="lies within the images"):
        shard(root, root / "out")
    with pytest.raises(DataError, match="images_per_shard must be at least 1, not 0"):
        shard(root, tmp_path / "out", images_per_shard=0)
    shard(root, tmp_path / "out")
    with pytest.raises(DataError, match="out is shards already; give the images they were made of"):
        shard(tmp_path / "out", tmp_path / "again")


def test_nothing_but_images_and_labels_is_in_a_shard(make_folder: MakeFolder, tmp_path: Path) -> None:
    shard(make_folder(PETS), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "test-000000.tar") as tar:
        members = tar.getmembers()
    assert {member.name.rpartition(".")[2] for member in members} == {"png", "cls"}
    assert {(member.mtime, member.uname) for member in members} == {(0, "")}
