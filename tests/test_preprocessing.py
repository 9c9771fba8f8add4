"""Pictures are arranged and normalized as torchvision does it; settings survive JSON and bad ones are named."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from mobilenets.errors import DataError
from mobilenets.images import open_image
from mobilenets.preprocessing import Preprocessing

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples.zip"


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 48), more=st.integers(0, 16),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)  # fmt: skip
def test_arrange_equals_torchvision(width: int, height: int, size: int, more: int, interpolation: str) -> None:
    if max(width, height) > 16 * min(width, height):
        width = height = max(width, height)
    noise = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    reference = v2.Compose(
        [v2.Resize(size + more, v2.InterpolationMode(interpolation), antialias=True), v2.CenterCrop(size)]
    )
    found = Preprocessing(size, size + more, interpolation=interpolation).arrange(image)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.asarray(reference(image)))


def test_arrange_real_photographs_as_torchvision() -> None:
    if not SAMPLES.exists():
        pytest.skip(f"{SAMPLES} is not there")
    reference = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
    with zipfile.ZipFile(SAMPLES) as archive:
        for name in archive.namelist()[:5]:
            image = open_image(io.BytesIO(archive.read(name)))
            assert np.array_equal(Preprocessing(224, 256).arrange(image), np.asarray(reference(image)))


def test_arrange_keeps_the_middle_and_enlarges_tiny_pictures() -> None:
    thirds = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 8, axis=1).repeat(8, axis=0)
    assert (Preprocessing(8).arrange(Image.fromarray(thirds))[:, 1:-1] == [0, 255, 0]).all()
    assert Preprocessing(32).arrange(Image.new("RGB", (1, 1), "red")).tolist() == [[[255, 0, 0]] * 32] * 32
    grey = Preprocessing(4, channels=1).arrange(Image.new("RGB", (9, 9), "red"))
    assert grey.tolist() == [[[76]] * 4] * 4  # ITU-R 601: 0.299 of red


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_an_extreme_strip_costs_no_extreme_memory(size: tuple[int, int]) -> None:
    strip = Image.new("RGB", size, "red")
    strip.paste("blue", (0, 0, size[0] // 3 + 1, size[1] // 3 + 1))
    assert (Preprocessing(224).arrange(strip) == [255, 0, 0]).all()


def test_normalize_equals_torchvision() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    reference = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    expected = np.stack([reference(image).numpy() for image in images])
    found = Preprocessing(5, mean=mean, std=std).normalize(images)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_authors_scaling_is_the_default() -> None:
    images = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
    found = Preprocessing(2).normalize(images)
    np.testing.assert_allclose(found[0, :, 0], [[-1, 1]] * 3, atol=1e-6)


def test_normalize_refuses_other_arrays() -> None:
    with pytest.raises(DataError, match=r"uint8 \[B, H, W, 3\], not float32"):
        Preprocessing(2).normalize(np.zeros((1, 2, 2, 3), np.float32))  # type: ignore[arg-type]


def test_dictionary_and_back() -> None:
    for value in (Preprocessing(32), Preprocessing(224, 256, 1, (0.1,), (0.2,), "bicubic")):
        written = json.loads(json.dumps(value.to_dict()))
        assert Preprocessing.from_dict(written) == value
        assert hash(value) == hash(Preprocessing.from_dict(written))


@pytest.mark.parametrize(("change", "message"), [
    ({"image_size": "32"}, "'image_size' must be a whole number"),
    ({"image_size": True}, "'image_size' must be a whole number"),
    ({"image_size": 0}, "from 1 to 4096, not 0"),
    ({"resize_size": 16}, "'resize_size' must be a whole number from 32"),
    ({"channels": 4}, "'channels' must be 3"),
    ({"mean": [0.5, 0.5]}, "'mean' must be 1 or 3 finite numbers"),
    ({"mean": [0.5, float("nan"), 0.5]}, "'mean' must be"),
    ({"mean": "abc"}, "'mean' must be"),
    ({"std": 0.5}, "'std' must be"),
    ({"std": [0, 1, 1]}, "'std' must be above 0"),
    ({"interpolation": "nearest"}, "'interpolation' must be bilinear or bicubic"),
    ({"interpolation": ["bilinear"]}, "'interpolation' must be"),
    ({"crop": 1}, "unknown key 'crop'"),
])  # fmt: skip
def test_from_dict_names_the_bad_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing.from_dict(Preprocessing(32).to_dict() | change)


def test_from_dict_wants_every_key() -> None:
    with pytest.raises(DataError, match="missing key 'channels', 'interpolation', 'mean', 'resize_size', 'std'"):
        Preprocessing.from_dict({"image_size": 32})
