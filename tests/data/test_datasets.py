"""`load_dataset` finds every kind of data, and says clearly when there is none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilenets.data.datasets import Dataset, ImageSplit, check_classes, load_dataset, natural_image_size
from mobilenets.data.sources import ArraySource, FileSource
from mobilenets.errors import BadImagesError, DataError
from mobilenets.files import outside

MakeFolder = Callable[[dict[str, int]], Path]
CIFAR10_ZIP = Path(__file__).parents[3] / "shared" / "data" / "cifar10.zip"


def refusal(data: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits() -> None:
    data = load_dataset("digits")
    assert (data.name, len(data.classes)) == ("digits", 10)
    assert (len(data.train), len(data.test)) == (1438, 359)
    counts = np.bincount(data.test.labels)
    assert counts.min() >= 34
    assert counts.max() <= 37
    names = {source.name for split in (data.train, data.test) for source in split.sources}
    assert len(names) == 1797
    assert data.notes == (
        "digits have a handedness: train them without flip (the quick recipe does)",
        "20% of each class held out for testing, chosen with seed 0",
    )
    assert natural_image_size(data) == 32


def test_a_networks_classes_must_be_the_datas() -> None:
    digits = load_dataset("digits")
    check_classes(digits, "digits", digits.classes)
    with pytest.raises(DataError) as caught:
        check_classes(digits, "digits", ("cat", "dog"), answered_by="pets.onnx")
    assert str(caught.value).startswith("digits has classes 0, 1, 2, 3, 4, ... (10); pets.onnx answers cat, dog (2). ")
    with pytest.raises(DataError, match="in the same order"):
        check_classes(digits, "digits", digits.classes[::-1])


def test_seed_and_fraction_choose_the_split() -> None:
    again, other = load_dataset("digits"), load_dataset("digits", seed=1)
    assert load_dataset("digits").digest == again.digest
    assert again.digest != other.digest
    assert len(load_dataset("digits", test_fraction=0.5).test) == pytest.approx(1797 / 2, abs=5)


def test_a_plain_folder(make_folder: MakeFolder) -> None:
    data = load_dataset(str(make_folder({"cat": 10, "dog": 5})))
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.test.labels.tolist() == [0, 0, 1]
    assert data.train.labels.tolist() == [0] * 8 + [1] * 4


def test_a_folder_of_parts_is_not_split_again(make_folder: MakeFolder) -> None:
    data = load_dataset(make_folder({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1}))
    assert (len(data.train), len(data.test), data.notes) == (4, 2, ())


def test_a_zip_holds_the_same_data_as_its_folder(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 6, "dog": 5})
    zipped = load_dataset(shutil.make_archive(str(tmp_path / "pets"), "zip", root))
    folder = load_dataset(root)
    assert zipped.digest == folder.digest
    assert zipped.name == "pets"
    for one, other in zip(zipped.train.sources, folder.train.sources, strict=True):
        assert np.array_equal(np.asarray(one.open()), np.asarray(other.open()))


def test_the_digest_notices_other_data(make_folder: MakeFolder, png: Callable[..., bytes]) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    seen = [load_dataset(root).digest]
    (root / "cat" / "1.png").write_bytes(png(1, (200, 200)))
    seen.append(load_dataset(root).digest)
    (root / "cat" / "2.png").rename(root / "cat" / "9.png")
    seen.append(load_dataset(root).digest)
    (root / "dog").rename(root / "emu")
    seen.append(load_dataset(root).digest)
    assert len(set(seen)) == 4
    moved = root.rename(root.parent / "elsewhere")
    assert load_dataset(moved).digest == seen[-1]


def test_names_and_paths_that_are_no_data(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    (tmp_path / ".petz").mkdir()
    (tmp_path / "list.csv").write_text("a,b")
    (tmp_path / "broken.zip").write_text("no zip")
    wanted = "give digits, cifar10, a folder of class folders, one with train/ and test/, a zip of either, or shards"
    assert refusal("digit") == f"there is no 'digit' (is it digits?): {wanted}"
    assert refusal(tmp_path / "petz") == f"there is no '{tmp_path / 'petz'}' (is it pets?): {wanted}"
    assert refusal("/nowhere/at/all") == f"there is no '/nowhere/at/all': {wanted}"
    assert refusal(tmp_path / "list.csv" / "x").startswith("there is no ")
    assert refusal(tmp_path / "list.csv") == f"{tmp_path / 'list.csv'} is neither a folder nor a zip: {wanted}"
    assert "broken.zip is no readable zip" in refusal(tmp_path / "broken.zip")
    assert refusal("  ") == f"no data named: {wanted}"
    assert "can't be opened" in refusal("x" * 5000)
    assert "can't be opened" in refusal("a\0b")
    assert "class folder" in refusal(make_folder({"emu": 1}))
    assert root.is_dir()


def test_cifar10_from_a_data_root_without_it_is_fetched_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def fetch(root: Path) -> tuple[tuple[str, ...], ImageSplit, ImageSplit]:
        asked.append(root)
        return ("a", "b"), array_split([(32, 32)] * 2), array_split([(32, 32)] * 2)

    monkeypatch.setattr("mobilenets.data.datasets.fetch_cifar10", fetch)
    assert load_dataset("cifar10", data_root=tmp_path).name == "cifar10"
    monkeypatch.setenv("MOBILENETS_DATA", str(tmp_path / "other"))
    load_dataset("cifar10")
    assert asked == [tmp_path, tmp_path / "other"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_damaged_copy_of_cifar10_given_as_folder(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    assert "cifar-10-batches-py is damaged or incomplete" in refusal(folder if inside else tmp_path)


def array_split(sizes: list[tuple[int, int]]) -> ImageSplit:
    sources = [ArraySource(str(i), np.zeros((height, width), np.uint8)) for i, (height, width) in enumerate(sizes)]
    return ImageSplit(sources, np.arange(len(sizes), dtype=np.int64) % 2)


@pytest.mark.parametrize(("sizes", "expected"), [
    ([(8, 8)] * 3, 32), ([(32, 32)] * 3, 32), ([(63, 500)] * 3, 32), ([(500, 64)] * 3, 64), ([(300, 200)] * 3, 192),
    ([(3000, 4000)] * 3, 224), ([(32, 32), (100, 130), (999, 999)], 96), ([(160, 160)], 160),
])  # fmt: skip
def test_natural_image_size(sizes: list[tuple[int, int]], expected: int) -> None:
    split = array_split(sizes)
    assert natural_image_size(Dataset("x", ("a", "b"), split, split, (), "")) == expected


def test_natural_image_size_passes_over_bad_images_but_not_all(tmp_path: Path, png: Callable[..., bytes]) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    (tmp_path / "good.png").write_bytes(png(0, (100, 100)))
    bad, good = (FileSource(tmp_path / f"{name}.png", name, 1) for name in ("bad", "good"))
    both, only_bad = (ImageSplit(sources, np.zeros(len(sources), np.int64)) for sources in ([bad, good], [bad]))
    assert natural_image_size(Dataset("x", ("a", "b"), both, both, (), "")) == 96
    with pytest.raises(BadImagesError, match=r"bad\.png: not an image"):
        natural_image_size(Dataset("x", ("a", "b"), only_bad, only_bad, (), ""))


def test_labels_must_fit_the_images() -> None:
    with pytest.raises(DataError, match=r"2 images need int64 \[2\] labels, not int64 \[1\]"):
        ImageSplit(array_split([(1, 1)] * 2).sources, np.zeros(1, np.int64))


@pytest.mark.slow
def test_cifar10_as_jpeg() -> None:
    if not CIFAR10_ZIP.exists():
        pytest.skip(f"{CIFAR10_ZIP} is not there")
    data = load_dataset(CIFAR10_ZIP)
    assert (len(data.train), len(data.test), data.notes) == (50_000, 10_000, ())
    assert data.classes == (
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    )
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert natural_image_size(data) == 32


def test_a_data_set_in_memory_is_taken_as_it_is(tmp_path: Path) -> None:
    dataset = load_dataset("digits")
    assert load_dataset(dataset) is dataset
    assert outside(dataset, tmp_path) == tmp_path
