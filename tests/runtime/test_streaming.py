import threading
import zipfile

import numpy as np
import pytest
from described import write_onnx
from PIL import Image

from mobilenets.errors import BadImage, DataError
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.streaming import predict_files

COLOURS = {"red": (250, 20, 10), "green": (20, 250, 10), "blue": (10, 20, 250)}


@pytest.fixture
def classifier(tmp_path):
    return Classifier(write_onnx(tmp_path / "net.onnx").path)


@pytest.fixture
def folder(tmp_path):
    """23 pictures named after their colour, and two files that are none."""
    for number in range(23):
        name = list(COLOURS)[number % 3]
        (tmp_path / "photos" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), COLOURS[name]).save(tmp_path / f"photos/{number % 2}/{number:02}-{name}.png")
    (tmp_path / "photos/0/03-bad.jpg").write_text("no picture")
    (tmp_path / "photos/1/99-bad.png").touch()
    return tmp_path / "photos"


@pytest.mark.parametrize("batch_size", [1, 4, 16, 100])
def test_all_are_answered_in_order_past_bad_files(classifier, folder, batch_size):
    records = list(predict_files(classifier, [folder], batch_size=batch_size))
    names = [record.name for record in records]
    assert names == [str(path) for path in sorted(folder.glob("*/*"))]
    bad = [record for record in records if isinstance(record, BadImage)]
    assert [record.reason.split(" (")[0] for record in bad] == ["not an image", "empty file"]
    for record in records:
        if isinstance(record, Prediction):
            assert f"-{record.label}.png" in record.name


def test_nothing_but_bad_files(classifier, folder):
    records = list(predict_files(classifier, [folder / "0/03-bad.jpg", folder / "absent"], batch_size=1))
    assert [type(record) for record in records] == [BadImage, BadImage]
    assert list(predict_files(classifier, [])) == []


def test_few_images_are_in_memory_at_a_time(classifier, folder, monkeypatch):
    decoded, most = 0, 0
    lock = threading.Lock()
    prepare, answer = classifier.prepare, classifier.answer

    def counted(picture, name):
        nonlocal decoded, most
        with lock:
            decoded += 1
            most = max(most, decoded)
        return prepare(picture, name)

    def answered(images, names, *, top):
        nonlocal decoded
        with lock:
            decoded -= len(images)
        return answer(images, names, top=top)

    monkeypatch.setattr(classifier, "prepare", counted)
    monkeypatch.setattr(classifier, "answer", answered)
    found = sorted(folder.glob("*/*[eun].png")) * 4
    assert len(list(predict_files(classifier, found, batch_size=3))) == len(found) > 40
    assert most <= 3 * 3  # a batch at the network, two ahead


def test_paths_are_taken_as_they_are_needed(classifier, folder):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield folder / "0/00-red.png"

    records = predict_files(classifier, endless(), batch_size=2)
    assert next(records).label == "red"
    assert taken <= 6
    before = threading.active_count()
    records.close()
    assert threading.active_count() < before


def test_pixels_are_those_of_the_classifier_alone(classifier, folder):
    path = folder / "0/00-red.png"
    (streamed,) = predict_files(classifier, [path], top=2)
    assert streamed == classifier.predict([path], top=2)[0]
    assert len(streamed.top) == 2


@pytest.mark.parametrize(("options", "said"), [({"batch_size": 0}, "batch_size is 0"), ({"top": 0}, "top is 0")])
def test_counts_below_1_are_refused_before_any_file(classifier, options, said):
    with pytest.raises(DataError, match=said):
        predict_files(classifier, [], **options)


def test_a_fault_of_the_network_is_raised(classifier, folder, monkeypatch):
    def fail(images):
        raise DataError("a fault")

    monkeypatch.setattr(classifier, "backend", type("Broken", (), {"predict": staticmethod(fail)}))
    others = set(threading.enumerate())  # other tests' images, say, have pools of their own
    with pytest.raises(DataError, match="a fault"):
        list(predict_files(classifier, [folder]))
    assert not set(threading.enumerate()) - others
    assert np.isfinite(classifier.temperature)


@pytest.fixture
def zipped(folder, tmp_path):
    """The folder as a zip, with what a Mac adds, a name that leads out and a text."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.*"), reverse=True):
            archive.write(path, path.relative_to(folder))
        archive.writestr("__MACOSX/0/._00-red.png", b"junk")
        archive.writestr("read me.txt", b"words")
        archive.write(folder / "0/00-red.png", "../2/outside-red.png")
    return tmp_path / "photos.zip"


def test_a_zip_is_answered_as_the_folder_it_was_made_of(classifier, folder, zipped):
    from_folder = list(predict_files(classifier, folder))
    from_zip = list(predict_files(classifier, str(zipped)))
    assert [record.name for record in from_zip[:-1]] == [
        record.name.replace(str(folder), str(zipped)) for record in from_folder
    ]
    assert from_zip[-1].label == "red"
    for packed, plain in zip(from_zip, from_folder, strict=False):
        assert type(packed) is type(plain)
        if isinstance(packed, Prediction):
            assert packed.top == plain.top
        else:
            assert packed.reason.split(" (")[0] == plain.reason.split(" (")[0]


def test_a_zip_within_a_folder_is_none_of_its_images(classifier, folder, zipped):
    zipped.rename(folder / "photos.zip")
    assert not [record for record in predict_files(classifier, folder) if ".zip" in record.name]


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_a_zip_that_can_not_be_read_is_told_and_left(classifier, folder, tmp_path, content):
    (tmp_path / "bad.zip").write_bytes(content)
    bad, good = predict_files(classifier, [tmp_path / "bad.zip", folder / "0/00-red.png"])
    assert "bad.zip is no readable zip" in bad.reason
    assert good.label == "red"


def test_one_path_as_text_is_not_its_letters(classifier, folder):
    (answer,) = predict_files(classifier, str(folder / "0/00-red.png"))
    assert answer.label == "red"
    with pytest.raises(DataError, match="not a int"):
        predict_files(classifier, 5)
