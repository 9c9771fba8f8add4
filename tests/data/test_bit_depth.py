"""16-bit images of a data set are read by the bits they hold, found once and kept with the network."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenets.cli.main import main
from mobilenets.data.datasets import load_dataset
from mobilenets.data.decoding import differing, find_bit_depth
from mobilenets.data.loader import prepare
from mobilenets.data.shards.shard_file import encoded
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import open_image
from mobilenets.models.saved import load_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.classifier import Classifier
from mobilenets.workflows.doctor import doctor
from mobilenets.workflows.train import train

TOP = {8: 255, 12: 4095, 16: 65535}


def write_set(folder: Path, bits: int = 12, kind: str = "png") -> Path:
    """Two classes, upright and flat stripes, of grey with these bits in 16."""
    generator = np.random.default_rng(0)
    for number in range(12):
        for name in ("flat", "upright"):
            stripes = np.add.outer(np.arange(32), np.zeros(32, int)) // (2 + number % 3) % 2
            values = 0.05 + 0.75 * (stripes if name == "flat" else stripes.T) + 0.2 * generator.random((32, 32))
            path = folder / name / f"{number:02}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((values * TOP[bits]).astype(np.uint16)).save(path)
    return folder


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_images_of_any_depth_reach_the_network_as_the_same_pixels(tmp_path: Path, bits: int) -> None:
    split = load_dataset(write_set(tmp_path / "photos", bits)).train
    rule, notes = find_bit_depth(split.sources)
    assert rule == DeepPixels(bits)
    assert [note.partition(" (greatest")[0] for note in notes] == [f"16-bit images hold {bits} bits"] * (bits != 16)
    preprocessing = Preprocessing(32).scaling(rule)
    images = prepare(split, preprocessing)
    assert images.batch(range(len(split))).mean() == pytest.approx(134, abs=6)
    decoded = prepare(split, preprocessing, memory_limit=0)
    assert np.array_equal(decoded.batch([0, 5]), images.batch([0, 5]))


@pytest.mark.slow
def test_the_rule_travels_from_training_to_the_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: 12-bit images had a mean of 8 of 255, and nothing was said."""
    monkeypatch.chdir(tmp_path)
    photos = write_set(tmp_path / "photos")
    train_it = ["train", "mobilenet_v3_small", "--data", "photos", "--out", "run", "--recipe", "quick", "--epochs", "1"]
    assert main([*train_it, "--width-mult", "0.35", "--image-size", "32"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "note: 16-bit images hold 12 bits" in told
    saved = load_network(tmp_path / "run")
    assert saved.preprocessing.deep == DeepPixels(12)
    assert json.loads((tmp_path / "run/model.json").read_text())["preprocessing"]["sample_bits"] == 12

    assert main(["export", "run", "--to", "onnx", "--out", "net.onnx", "--data", "photos"]) == 0
    capsys.readouterr()
    classifier = Classifier(tmp_path / "net.onnx")
    path = photos / "flat/00.png"
    prepared = classifier.prepare(path, "x")
    assert prepared.mean() == pytest.approx(134, abs=12)
    assert np.array_equal(prepared, saved.preprocessing.arrange(open_image(path, deep=DeepPixels(12))))
    assert np.array_equal(prepared, classifier.prepare(path.read_bytes(), "x"))
    assert np.array_equal(prepared, classifier.prepare(Image.open(path), "x"))

    write_set(tmp_path / "full", 16)
    assert main(["evaluate", "net.onnx", "--data", "photos"]) == 0
    assert "16-bit images hold" not in capsys.readouterr().err
    assert main(["evaluate", "net.onnx", "--data", "full"]) == 0
    assert "note: 16-bit images hold 16 bits, where 12 are read" in " ".join(capsys.readouterr().err.split())


def test_the_doctor_says_so_and_takes_none_for_black(tmp_path: Path) -> None:
    photos = write_set(tmp_path / "photos")
    values = np.linspace(0, 60_000, 32 * 32).reshape(32, 32)
    checkup = doctor(photos)
    found = {finding.kind: finding for finding in checkup.findings}
    assert found["bit-depth"].count == 24
    assert found["bit-depth"].title == "16-bit images that hold 12 bits"
    assert "one-colour" not in found
    assert "bit-depth-exceeded" not in found
    (tmp_path / "parts/train").mkdir(parents=True)
    photos.rename(tmp_path / "parts/train" / "x")
    for name in ("flat", "upright"):
        (tmp_path / "parts/train/x" / name).rename(tmp_path / "parts/train" / name)
        (tmp_path / "parts/test" / name).mkdir(parents=True)
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / "parts/test" / name / "0.png")
    (tmp_path / "parts/train/x").rmdir()
    found = {finding.kind: finding for finding in doctor(tmp_path / "parts").findings}
    assert [example.images for example in found["bit-depth-exceeded"].examples] == [
        ("test/flat/0.png",),
        ("test/upright/0.png",),
    ]


def test_images_of_8_bits_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (8, 8), (80 * place, 80 * number, 0)).save(tmp_path / name / f"{number}.jpg")
    split = load_dataset(tmp_path).train
    monkeypatch.setattr("mobilenets.data.decoding.greatest_value", None)
    assert find_bit_depth(split.sources) == (AS_STORED, ())
    assert differing(DeepPixels(12), split.sources) is None


def test_unreadable_images_decide_nothing(tmp_path: Path) -> None:
    photos = write_set(tmp_path / "photos")
    (photos / "flat/00.png").write_bytes((photos / "flat/00.png").read_bytes()[:100])
    (photos / "flat/01.png").write_text("no picture")
    assert find_bit_depth(load_dataset(photos).train.sources)[0].bits == 12


def test_shards_of_smaller_images_are_made_by_the_same_rule(tmp_path: Path) -> None:
    source = load_dataset(write_set(tmp_path / "photos")).train.sources[0]
    suffix, content = encoded(source, 16, DeepPixels(12))
    assert suffix == "jpg"
    assert np.asarray(Image.open(io.BytesIO(content))).mean() == pytest.approx(134, abs=12)


def test_preprocessing_of_earlier_files_keeps_the_full_range() -> None:
    old = Preprocessing(32).to_dict()
    assert "sample_bits" not in old
    assert "float_white" not in old
    assert Preprocessing.from_dict(old).deep == AS_STORED
    new = Preprocessing(32).scaling(DeepPixels(12, 4095.0))
    assert Preprocessing.from_dict(json.loads(json.dumps(new.to_dict()))) == new
    assert replace(new, image_size=32).deep == DeepPixels(12, 4095.0)


@pytest.mark.slow
def test_weights_of_other_images_do_not_bring_their_rule(tmp_path: Path) -> None:
    options = {"recipe": "quick", "epochs": 1, "width_mult": 0.35, "image_size": 32}
    train("mobilenet_v3_small", write_set(tmp_path / "twelve"), tmp_path / "first", **options)
    full = write_set(tmp_path / "full", 16)
    train("mobilenet_v3_small", full, tmp_path / "second", weights=tmp_path / "first", **options)
    assert load_network(tmp_path / "second").preprocessing.deep == AS_STORED
