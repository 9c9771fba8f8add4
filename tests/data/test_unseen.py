"""What a network was trained on is not among what it is scored on, whatever became of the folder since."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.held_out import (
    also_trained_on,
    as_trained,
    cut_validation,
    image_record,
    validation_record,
    without_copies,
    without_seen,
)
from mobilenets.data.scored_images import scored_images
from mobilenets.data.splits import image_digest, image_digests
from mobilenets.errors import DataError
from mobilenets.image_record import ImageRecord

Png = Callable[..., bytes]


@pytest.fixture
def folder(tmp_path: Path, png: Png) -> Path:
    """Two classes of 30 images, all different."""
    for place, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "pets" / name / f"{number:02d}.png").write_bytes(png(100 * place + number))
    return tmp_path / "pets"


def names(*splits: object) -> list[set[str]]:
    return [{source.name for source in split.sources} for split in splits]  # type: ignore[attr-defined]


def trained(data: Dataset) -> tuple[Dataset, dict[str, str], ImageRecord]:
    """A data set as it is trained on, and what the run remembers of it."""
    cut = cut_validation(data, 0.2)
    return cut, {"data_digest": cut.digest, **validation_record(cut)}, image_record(cut, None)


def test_all_is_as_it_was_while_the_folder_is(folder: Path) -> None:
    cut, provenance, record = trained(load_dataset(folder))
    found, why = as_trained(load_dataset(folder), provenance, record)
    assert why is None
    assert names(found.train, found.validation, found.test) == names(cut.train, cut.validation, cut.test)
    assert not any("seen" in note for note in found.notes)


def test_in_a_folder_that_grew_nothing_trained_on_is_scored(folder: Path, png: Png) -> None:
    cut, provenance, record = trained(load_dataset(folder))
    train, validation, test = names(cut.train, cut.validation, cut.test)
    for number in range(60, 90):
        (folder / "cat" / f"new{number}.png").write_bytes(png(number))
    for path in (folder / "cat").glob("0?.png"):  # what they are called does not matter
        path.rename(path.with_stem(f"old{path.stem}"))
    found, why = as_trained(load_dataset(folder), provenance, record)
    assert why is None
    now = [{name.replace("old", "") for name in part} for part in names(found.train, found.validation, found.test)]
    assert [part - {name for name in part if "new" in name} for part in now] == [train, validation, test]
    assert any("new" in name for name in now[1])
    assert any("new" in name for name in now[2])


def test_another_split_and_copies_are_noticed_and_counted(folder: Path, tmp_path: Path) -> None:
    cut, provenance, record = trained(load_dataset(folder))
    other = load_dataset(folder, seed=1)
    digests = image_digests(other.test.sources)
    seen, chosen = int(record.was_trained_on(digests).sum()), int(record.was_validated_on(digests).sum())
    found, _ = as_trained(other, provenance, record)
    assert len(found.test) == len(other.test) - seen - chosen
    assert f"of {len(other.test)} test images, the network has seen {seen} it was trained on and {chosen} " in str(
        found.notes
    )
    shutil.copyfile(folder / cut.train.sources[0].name, folder / cut.test.sources[0].name)
    again, _ = as_trained(load_dataset(folder), provenance, record)
    assert cut.test.sources[0].name not in names(again.test)[0]
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "split" / part / name).mkdir(parents=True)
            for source in cut.train.sources:
                if source.name.startswith(name):
                    shutil.copyfile(folder / source.name, tmp_path / "split" / part / name / Path(source.name).name)
    with pytest.raises(DataError, match=r"split has no test images for this network: of \d+ test images, the network"):
        as_trained(load_dataset(tmp_path / "split"), provenance, record)


def test_without_a_record_the_digest_warns(folder: Path, png: Png) -> None:
    _, provenance, _ = trained(load_dataset(folder))
    same, why = as_trained(load_dataset(folder), provenance, None)
    assert why is None
    assert not any("no longer" in note for note in same.notes)
    (folder / "cat" / "new.png").write_bytes(png(77))
    grown = load_dataset(folder)
    found, why = as_trained(grown, provenance, None)
    assert why == "pets is not, or no longer, what the network was trained on"
    assert "some of these may be among them" in found.notes[-1]
    assert as_trained(grown, {}, None)[0] is grown  # of a weight file nothing is known at all


def test_packaged_data_are_scored_as_published(digits: Dataset) -> None:
    _, provenance, record = trained(digits)
    assert names(as_trained(digits, provenance, record)[0].test) == names(digits.test)
    other = load_dataset("digits", seed=1)
    found, _ = as_trained(other, provenance, record)
    assert 0 < len(found.test) < len(other.test)


def test_what_training_left_out_is_left_out_again_but_no_other_image_of_that_name(folder: Path, tmp_path: Path) -> None:
    whole = load_dataset(folder)
    listed = [whole.train.sources[0], whole.test.sources[0]]
    (tmp_path / "list.txt").write_text("".join(f"{source.name}\tdull\n" for source in listed))
    data = load_dataset(folder, exclude=tmp_path / "list.txt")
    assert data.excluded == {source.name: image_digest(source) for source in listed}
    _, provenance, record = trained(data)
    found, why = as_trained(load_dataset(folder), provenance, record)
    assert why is None
    assert found.digest == data.digest
    assert "2 images left out, as they were in training" in found.notes
    shutil.copyfile(folder / "cat" / "29.png", folder / listed[0].name)
    os.utime(folder / listed[0].name)
    changed, _ = as_trained(load_dataset(folder), provenance, record)
    assert "1 image left out, as they were in training" in changed.notes


def test_images_of_a_later_training_are_seen_too(folder: Path) -> None:
    data = load_dataset(folder)
    record = image_record(data, None)
    for before in (record, ImageRecord.from_dict(record.to_dict())):
        assert before is not None
        found = also_trained_on(before, data.test)
        assert found.was_trained_on(image_digests(data.test.sources)).all()
        assert found.was_trained_on(image_digests(data.train.sources)).all()


def test_weights_that_were_trained_on_test_images_are_not_scored_on_them(folder: Path) -> None:
    other = load_dataset(folder, seed=1)
    before = image_record(other, None)
    cut = cut_validation(load_dataset(folder), 0.2)
    found = without_seen(cut, before)
    assert found.validation is not None
    for split in (found.test, found.validation):
        assert not before.was_trained_on(image_digests(split.sources)).any()
    assert len(found.test) < len(cut.test)
    chained = image_record(found, before)
    assert chained.was_trained_on(image_digests(other.train.sources)).all()
    with pytest.raises(DataError, match="no test images for these weights"):
        without_seen(cut, ImageRecord(np.union1d(before.trained, image_digests(cut.test.sources))))


def test_all_of_another_folder_is_scored_with_the_classes_it_has(folder: Path, tmp_path: Path, png: Png) -> None:
    _, provenance, record = trained(load_dataset(folder))
    for name, count in (("dog", 1), ("bird", 4)):
        (tmp_path / "new" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "new" / name / f"{number}.png").write_bytes(png(200 + 10 * count + number))
    classes = ("cat", "dog", "bird")
    new = load_dataset(tmp_path / "new", classes=classes)
    found = scored_images(new, "all", provenance, record, network="runs/pets")
    assert sorted(found.images.labels.tolist()) == [1, 2, 2, 2, 2]
    assert found.notes[-1] == "no images of cat: the other classes are scored, averages are over these"
    with pytest.raises(DataError, match=r"classes that the network does not know: bird \(1\)\. It answers cat, dog"):
        load_dataset(tmp_path / "new", classes=("cat", "dog"))
    (tmp_path / "tested").mkdir()
    shutil.move(tmp_path / "new", tmp_path / "tested" / "test")
    only = load_dataset(tmp_path / "tested", classes=classes)
    assert len(scored_images(only, "test", provenance, record, network="r").images) == 5
    with pytest.raises(DataError, match="tested has no train images"):
        scored_images(only, "train", provenance, record, network="r")


def test_all_of_the_folder_trained_on_is_what_was_not(folder: Path, png: Png) -> None:
    cut, provenance, record = trained(load_dataset(folder))
    (folder / "cat" / "new.png").write_bytes(png(78))
    data = load_dataset(folder, classes=("cat", "dog"))
    found = scored_images(data, "all", provenance, record, network="r")
    assert names(found.images)[0] == names(cut.test)[0] | {"cat/new.png"}
    assert any(f"the network has seen {len(cut.train)} it was trained on" in note for note in found.notes)
    for source in [*cut.test.sources, *(folder / "cat").glob("new.png")]:
        (folder / getattr(source, "name", "")).unlink() if not isinstance(source, Path) else source.unlink()
    with pytest.raises(DataError, match="r has seen all"):
        scored_images(load_dataset(folder, classes=("cat", "dog")), "all", provenance, record, network="r")


def test_a_packaged_or_loaded_data_set_is_matched_by_name_too(digits: Dataset) -> None:
    turned = tuple(reversed(digits.classes))
    found = load_dataset(digits, classes=turned)
    assert found.classes == turned
    assert (found.test.labels == 9 - digits.test.labels).all()
    with pytest.raises(DataError, match=r"does not know: 8, 9 \(2\)\..*: give images of these as `data`$"):
        load_dataset("digits", classes=digits.classes[:8])


def test_copies_of_training_images_in_a_split_folder_are_not_scored(tmp_path: Path, png: Png) -> None:
    pets, shade = tmp_path / "pets", 0
    for name in ("cat", "dog"):
        for part, count in (("train", 6), ("val", 3), ("test", 4)):
            (pets / part / name).mkdir(parents=True)
            for number in range(count):
                shade += 1
                (pets / part / name / f"{number}.png").write_bytes(png(shade))
    for part, copies in (("test", 2), ("val", 1)):
        for number in range(copies):
            shutil.copyfile(pets / "train" / "dog" / f"{number}.png", pets / part / "cat" / f"copy{number}.png")
    data = load_dataset(pets)
    found = without_copies(data)
    assert data.validation is not None
    assert found.validation is not None
    assert (len(data.test), len(found.test)) == (10, 8)
    assert (len(data.validation), len(found.validation)) == (7, 6)
    assert "2 of 10 test images are copies of images trained on: not scored" in found.notes
    assert "1 of 7 validation images are copies of training images: left out" in found.notes
    record = image_record(found, None)
    later, _ = as_trained(load_dataset(pets), {"data_digest": data.digest}, record)
    assert names(later.test) == names(found.test)
    shutil.rmtree(pets / "test" / "cat")
    shutil.rmtree(pets / "test" / "dog")
    for name in ("cat", "dog"):
        shutil.copytree(pets / "train" / name, pets / "test" / name)
    with pytest.raises(DataError, match="12 of 12 test images are copies"):
        without_copies(load_dataset(pets))


def test_a_package_s_published_images_stay(digits: Dataset) -> None:
    assert without_copies(digits) is digits
