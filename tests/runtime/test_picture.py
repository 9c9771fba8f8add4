import io
import os
from pathlib import Path

import numpy as np
import pytest
from described import write_onnx
from PIL import Image

from mobilenets.errors import BadImagesError, DataError
from mobilenets.runtime.classifier import Classifier

BLUE = (10, 20, 250)


@pytest.fixture
def classifier(tmp_path):
    return Classifier(write_onnx(tmp_path / "net.onnx").path)


@pytest.fixture
def blue(tmp_path):
    Image.new("RGB", (30, 20), BLUE).save(tmp_path / "blue.png")
    return tmp_path / "blue.png"


class OwnPath:
    """A path of a class of someone's own."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def pipe(content):
    """An open file that can't seek."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return os.fdopen(reader, "rb")


FORMS = {
    "text": str,
    "Path": Path,
    "own path": OwnPath,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "pipe": lambda path: pipe(path.read_bytes()),
    "Pillow": Image.open,
    "array": lambda path: np.array(Image.open(path)),
    "RGBA": lambda path: np.array(Image.open(path).convert("RGBA")),
    "array not in one piece": lambda path: np.array(Image.open(path))[::-1, ::-1],
}


@pytest.mark.parametrize("form", FORMS)
def test_one_picture_in_any_form_alone_in_a_list_and_from_a_generator(classifier, blue, form):
    (expected,) = classifier.predict([blue])
    for wrapped in (lambda one: one, lambda one: [one], lambda one: (each for each in [one])):
        picture = FORMS[form](blue)
        (answer,) = classifier.predict(wrapped(picture))
        if hasattr(picture, "close"):
            picture.close()
        assert (answer.label, answer.top) == ("blue", expected.top)
        assert answer.name == (str(blue) if form in ("text", "Path", "own path") else "picture 1")


def test_a_file_written_to_just_now_is_read_from_its_beginning(classifier):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), BLUE).save(file, "PNG")
    assert file.tell() > 0
    assert classifier.predict(file)[0].label == "blue"


def test_several_in_one_array(classifier):
    batch = np.zeros((20, 9, 9, 3), np.uint8)
    batch[::2, :, :, 2] = batch[1::2, :, :, 0] = 250
    answers = classifier.predict(batch, top=1)
    assert [answer.label for answer in answers] == ["blue", "red"] * 10
    assert [answer.name for answer in answers] == [f"picture {number}" for number in range(1, 21)]


def test_transparent_pixels_are_over_white_and_grey_ones_grey(classifier):
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (classifier.prepare(clear, "clear") == 255).all()
    half = np.full((8, 8, 4), 128, np.uint8)
    np.testing.assert_allclose(classifier.prepare(half, "half"), 191, atol=1)
    grey = np.full((8, 8), 90, np.uint8)
    np.testing.assert_array_equal(classifier.prepare(grey, "grey"), np.full((8, 8, 3), 90))
    np.testing.assert_array_equal(classifier.prepare(grey[:, :, None], "grey"), np.full((8, 8, 3), 90))


@pytest.mark.parametrize("given", [5, None, {"a": "b.png"}, 2.5, object()])
def test_what_is_no_picture_says_what_is_taken(classifier, given):
    with pytest.raises(
        DataError, match=r"not a \w+: pass a path, bytes, an open binary file, a Pillow image or a NumPy"
    ):
        classifier.predict(given)


@pytest.mark.parametrize("given", [[5], [[1, 2]], [None]])
def test_what_is_no_picture_among_others(classifier, given):
    with pytest.raises(DataError, match=r"picture 1: a \w+ is no picture; pass a path, bytes, an open binary file"):
        classifier.predict(given)


def test_a_file_opened_as_text(classifier, tmp_path):
    (tmp_path / "text").write_text("no picture")
    with (
        (tmp_path / "text").open() as file,
        pytest.raises(DataError, match=r"opened as text .* open it as binary, 'rb'"),
    ):
        classifier.predict(file)


def test_a_closed_file_and_one_path_that_is_not_there(classifier, tmp_path, blue):
    file = blue.open("rb")
    file.close()
    with pytest.raises(BadImagesError, match=r"picture 1: .*closed file"):
        classifier.predict(file)
    with pytest.raises(BadImagesError, match=r"absent.png: no such file") as caught:
        classifier.predict(tmp_path / "absent.png")
    assert "skip" not in str(caught.value)
    assert "predict_files" in str(caught.value)
