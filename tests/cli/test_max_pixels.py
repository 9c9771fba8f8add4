"""The number of pixels an image may have is an option of every verb that reads images, and of Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from described import write_onnx
from PIL import Image

from mobilenets.cli.main import main
from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import prepare
from mobilenets.errors import BadImagesError, DataError
from mobilenets.images import MAX_PIXELS, open_image
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.classifier import Classifier
from mobilenets.workflows.doctor import doctor

from .conftest import Run

VERBS = ("train", "compare", "doctor", "evaluate", "export", "quantize", "deploy", "predict", "shard", "benchmark")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes; one image is of 64x64 pixels, the others of 16x16."""
    for name, colour in (("cold", (30, 90, 220)), ("warm", (220, 90, 30))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            side = 64 if (name, number) == ("warm", 0) else 16
            tint = tuple(value + number for value in colour)
            kind = "jpg" if number % 2 == 0 else "png"
            Image.new("RGB", (side, side), tint).save(tmp_path / "photos" / name / f"{number:02}.{kind}")
    return tmp_path / "photos"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_images_has_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert "--max-pixels" in capsys.readouterr().out


@pytest.mark.slow
def test_the_limit_is_named_where_it_is_reached_and_can_be_moved(call: Run, photos: Path) -> None:
    train = ["train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "32", "--data", "photos"]
    train += ["--recipe", "quick", "--epochs", "1", "--out", "run"]
    said = "64x64 pixels, more than 1,000 allowed (by --max-pixels, in Python max_pixels)"
    refused = call(*train, "--max-pixels", "1000")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert call(*train, "--max-pixels", "4096").returncode == 0
    looked = call("doctor", "photos", "--max-pixels", "1000")
    assert looked.returncode == 1
    assert said in looked.stdout
    assert said in call("evaluate", "run", "--data", "photos", "--split", "train", "--max-pixels", "1000").stderr
    assert said in call("shard", "photos", "--out", "shards", "--max-pixels", "1000").stderr
    assert "must be at least 1" in call("doctor", "photos", "--max-pixels", "0").stderr


def test_predict_takes_it(call: Run, photos: Path) -> None:
    write_onnx(photos.parent / "net.onnx")
    refused = call("predict", "net.onnx", "photos", "--json", "--max-pixels", "1000")
    assert refused.returncode == 1
    assert "warm/00.jpg: decompression bomb: 64x64 pixels, more than 1,000 allowed (by --max-pixels" in refused.stderr
    assert call("predict", "net.onnx", "photos", "--json", "--max-pixels", "4096").returncode == 0
    assert "must be at least 1" in call("predict", "net.onnx", "photos", "--max-pixels", "-1").stderr


def test_python_takes_it(tmp_path: Path, photos: Path) -> None:
    path = photos / "warm/00.jpg"
    assert MAX_PIXELS == 80_000_000
    with pytest.raises(BadImagesError, match="more than 4,095 allowed"):
        open_image(path, max_pixels=4095)
    for limit, count in ((4096, 0), (4095, 1)):
        found = {finding.kind: finding.count for finding in doctor(photos, max_pixels=limit).findings}
        assert found.get("unreadable", 0) == count
        split = load_dataset(photos, max_pixels=limit, test_fraction=0.1)
        images = [prepare(part, Preprocessing(16), skip_bad=True, memory_limit=0) for part in (split.train, split.test)]
        assert sum(len(one.skipped) for one in images) == count
    net = write_onnx(tmp_path / "net.onnx").path
    assert Classifier(net, max_pixels=4096).predict([path])
    strict = Classifier(net, max_pixels=4095)
    for picture in (path, path.read_bytes()):
        with pytest.raises(BadImagesError, match="max_pixels"):
            strict.predict([picture])
    with pytest.raises(DataError, match="max_pixels is 0"):
        load_dataset(photos, max_pixels=0)


@pytest.mark.slow
def test_more_than_pillows_own_limit_can_be_allowed(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(BadImagesError, match="more than 80 million allowed"):
        open_image(path)
    assert open_image(path, max_pixels=200_000_000).size == (20_000, 10_000)
