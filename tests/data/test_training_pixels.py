"""Training's short way from a file to pixels: what it may change, what it may not, and which files it finds bad."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import mobilenets.data.decoding as jpeg
from mobilenets.data.decoding import RandomCrop, TrainingDecoding, decode_all, draw
from mobilenets.data.loader import Share, prepare
from mobilenets.data.sources import ArraySource, FileSource, ImageSource, ImageSplit
from mobilenets.data.training_pixels import read_training_pixels
from mobilenets.errors import BadImagesError
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.images import open_image, open_scaled
from mobilenets.preprocessing import Preprocessing

SMALL = Preprocessing(32, resize_size=36)
PLAIN = TrainingDecoding()
CROPPED = TrainingDecoding(RandomCrop())
DRAWN = draw(0, 0, 1)[0]
KINDS = {
    "baseline": ("RGB", {}),
    "fine colours": ("RGB", {"subsampling": 0}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "turned": ("RGB", {"orientation": 6}),
    "PNG": ("RGB", {"format": "PNG"}),
    "transparent": ("RGBA", {"format": "PNG"}),
}


def photograph(width: int = 400, height: int = 300, mode: str = "RGB") -> Image.Image:
    """Smooth shapes with some grain: what JPEG is made for."""
    rows, columns = np.mgrid[0:height, 0:width]
    rows, columns = rows / height * 2 * np.pi, columns / width * 2 * np.pi
    waves = [np.sin(3 * columns + 2 * rows), np.cos(2 * columns), np.sin(4 * rows)]
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    pixels = np.clip(128 + 90 * np.stack(waves, 2) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(kind: str, width: int = 400, height: int = 300) -> bytes:
    mode, given = KINDS[kind]
    options = dict(given)
    if (orientation := options.pop("orientation", None)) is not None:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    photograph(width, height, mode).save(file, **{"format": "JPEG", "quality": 92, **options})
    return file.getvalue()


def stored(folder: Path, content: bytes, name: str = "photo.jpg") -> FileSource:
    path = folder / name
    path.write_bytes(content)
    return FileSource(path, name, len(content))


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    difference: NDArray[np.int64] = np.abs(one.astype(np.int64) - other.astype(np.int64))
    return difference


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the optional decoder and without."""
    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [3, 1])
def test_training_without_crops_sees_about_what_evaluation_sees(
    kind: str, channels: int, decoder: str, tmp_path: Path
) -> None:
    preprocessing = Preprocessing(32, resize_size=36, channels=channels)
    source = stored(tmp_path, encode(kind))
    found = read_training_pixels(source, preprocessing, PLAIN, DRAWN)
    exact = preprocessing.arrange(source.open())
    assert found.shape == exact.shape == (32, 32, channels)
    assert apart(found, exact).mean() < 1.5
    assert apart(found, exact).max() < 16


@pytest.mark.parametrize("kind", KINDS)
def test_both_decoders_give_the_same_pixels(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stored(tmp_path, encode(kind, 403, 301))
    fast = [read_training_pixels(source, SMALL, how, DRAWN) for how in (PLAIN, CROPPED)]
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    slow = [read_training_pixels(source, SMALL, how, DRAWN) for how in (PLAIN, CROPPED)]
    assert np.array_equal(fast[0], slow[0])
    assert np.array_equal(fast[1], slow[1])


def test_a_crop_at_a_reduced_scale_is_the_same_part_of_the_picture(decoder: str, tmp_path: Path) -> None:
    source = stored(tmp_path, encode("baseline", 1203, 901))
    full = TrainingDecoding(RandomCrop(), reduced=False)
    for drawn in draw(1, 0, 8):
        one, other = (read_training_pixels(source, SMALL, how, drawn) for how in (CROPPED, full))
        assert apart(one, other).mean() < 1.5


@pytest.mark.parametrize(("side", "divisor"), [(143, 1), (144, 2), (287, 2), (288, 4), (575, 4), (576, 8), (4000, 8)])
def test_the_scale_leaves_twice_the_pixels(side: int, divisor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Encoded:
        name = location = "x"
        size = max_pixels = 1

        def encoded(self) -> bytes:
            return b""

        def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
            raise AssertionError

        def read_size(self) -> tuple[int, int]:
            raise AssertionError

    def decode(content: bytes, choose: jpeg.ChooseScale, most: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        seen.append(choose(side, side + 9))
        return np.zeros((side + 9, side, 3), np.uint8), (side, side + 9)

    monkeypatch.setattr("mobilenets.data.training_pixels.decode_scaled", decode)
    read_training_pixels(Encoded(), SMALL, PLAIN, DRAWN)
    assert seen == [divisor]


def test_a_turned_picture_is_cropped_upright(decoder: str) -> None:
    content = encode("turned", 401, 300)
    sizes: list[tuple[int, int]] = []
    picture, size = open_scaled(io.BytesIO(content), lambda *given: sizes.append(given) or 4)  # type: ignore[func-returns-value]
    assert sizes == [size] == [(300, 401)]
    assert picture.size == (75, 101)


def test_a_strip_and_pixels_of_a_package(decoder: str, tmp_path: Path) -> None:
    strip = stored(tmp_path, encode("baseline", 1700, 100))
    assert apart(read_training_pixels(strip, SMALL, PLAIN, DRAWN), SMALL.arrange(strip.open())).max() == 0
    array = ArraySource("digit", np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert read_training_pixels(array, SMALL, CROPPED, DRAWN).shape == (32, 32, 3)


def test_epochs_are_bit_identical_wherever_entered_and_however_shared(tmp_path: Path) -> None:
    sources: list[ImageSource] = [
        stored(tmp_path, encode(kind, 300 + 7 * index, 240), f"{index}.img") for index, kind in enumerate(KINDS)
    ]
    exact = prepare(ImageSplit(sources, np.arange(len(sources), dtype=np.int64)), SMALL, memory_limit=0)
    images = exact.for_training(CROPPED)
    whole = list(images.epoch(5, 4))
    assert [len(labels) for _, labels in whole] == [4, 4]
    again = next(images.epoch(5, 4, first=1))
    assert np.array_equal(again[0], whole[1][0])
    parts = [next(images.epoch(5, 4, share=Share(index, 2)))[0] for index in range(2)]
    assert np.array_equal(np.concatenate(parts), whole[0][0])
    assert not np.array_equal(next(images.epoch(6, 4))[0], whole[0][0])
    # Evaluation of the very images is untouched.
    expected = np.stack([SMALL.arrange(source.open()) for source in sources])
    for pixels in (images.batch(range(8)), np.concatenate([part for part, _ in images.batches(3)])):
        assert np.array_equal(pixels, expected)
    kept = prepare(ImageSplit(sources, np.arange(8, dtype=np.int64)), SMALL)
    assert np.array_equal(next(kept.for_training(CROPPED).epoch(5, 4))[0], whole[0][0])


def test_what_decodes_is_named(tmp_path: Path, decoder: str) -> None:
    split = ImageSplit([stored(tmp_path, encode("baseline"))], np.zeros(1, np.int64))
    kept, decoded = (prepare(split, SMALL, memory_limit=limit) for limit in (2**20, 0))
    assert kept.for_training(PLAIN).decoded_by == decoded.decoded_by == "exactly"
    assert decoded.for_training(TrainingDecoding(reduced=False)).decoded_by == "exactly"
    name = decoded.for_training(PLAIN).decoded_by
    assert name.startswith(f"by {decoder}")
    assert name.endswith(" at reduced scale")


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "CMYK", "turned", "PNG"])
def test_a_cut_file_is_found_as_before_wherever_it_is_cut(kind: str, decoder: str, tmp_path: Path) -> None:
    content = encode(kind, 120, 90)
    for length in sorted({0, 1, 2, 3, 20, len(content) - 2, len(content) - 1, *range(100, len(content), 331)}):
        source = stored(tmp_path, content[:length])
        try:
            open_image(source.path)
            expected = None
        except BadImagesError as error:
            expected = error.bad[0]
        bad = decode_all([source], SMALL, None, None)
        assert bad.get(0) == expected
        if expected is not None:
            with pytest.raises(BadImagesError) as caught:
                read_training_pixels(source, SMALL, CROPPED, DRAWN)
            assert caught.value.bad[0] == expected


def test_whole_files_pass_and_others_keep_their_reasons(decoder: str, tmp_path: Path) -> None:
    sources = [stored(tmp_path, encode(kind), kind) for kind in KINDS]
    assert decode_all(sources, SMALL, None, None) == {}
    gone = FileSource(tmp_path / "gone.jpg", "gone.jpg", 9)
    text = stored(tmp_path, b"no picture at all, only words", "words.jpg")
    bad = decode_all([gone, text], SMALL, None, None)
    assert bad[0].reason == "no such file or directory"
    assert bad[1].reason.startswith("not an image (known are JPEG, PNG")
