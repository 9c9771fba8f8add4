import io

import numpy as np
import pytest
from described import CLASSES, colour_logits, describe, plain, write_onnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from mobilenets.artifact.container import write_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError, BackendError, BadImagesError, DataError
from mobilenets.images import open_image
from mobilenets.runtime.backend import choices, open_backend
from mobilenets.runtime.classifier import UNKNOWN, Classifier, check_golden, softmax

RED, BLUE = (250, 20, 10), (10, 20, 250)


def picture(colour, size=(30, 20), mode="RGB"):
    return Image.new("RGB", size, colour).convert(mode)


def content(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def net(tmp_path):
    return write_onnx(tmp_path / "net.onnx").path


def test_every_form_a_picture_may_have(net, tmp_path):
    picture(BLUE).save(tmp_path / "blue.png")
    path = tmp_path / "blue.png"
    pixels = np.array(picture(BLUE))
    answers = Classifier(net).predict([path, str(path), path.read_bytes(), picture(BLUE), pixels])
    assert [answer.name for answer in answers] == [str(path), str(path), "picture 3", "picture 4", "picture 5"]
    assert {(answer.label, answer.probability, answer.top) for answer in answers} == {
        (answers[0].label, answers[0].probability, answers[0].top)
    }
    assert answers[0].label == "blue"
    expected = softmax(colour_logits(plain(BLUE)))[0]
    assert dict(answers[0].top) == pytest.approx(dict(zip(CLASSES, expected, strict=True)), abs=1e-5)
    assert [name for name, _ in answers[0].top] == ["blue", "green", "red"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_a_picture_of_any_mode_becomes_what_its_file_would(net, mode):
    grey = Image.linear_gradient("L")
    image = grey.convert(mode) if mode in ("I", "F", "I;16") else grey.convert("RGB").convert(mode)
    classifier = Classifier(net)
    from_file = classifier.prepare(content(image, "TIFF"), "file")
    np.testing.assert_array_equal(classifier.prepare(image, "picture"), from_file)
    assert from_file.max() > from_file.min()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "RGBa", "HSV", "RGBX"])
def test_a_mode_no_file_comes_in(net, mode):
    image = Image.new("RGBA", (9, 9), (200, 10, 30, 255))
    base = image.convert("RGB") if mode in ("HSV", "RGBX") else image
    prepared = Classifier(net).prepare(base.convert(mode), "picture").reshape(-1, 3)
    expected = (200, 10, 30) if mode != "LA" else (69, 69, 69)
    np.testing.assert_allclose(prepared, np.broadcast_to(expected, prepared.shape), atol=3)


def test_transparency_is_over_white_and_turned_pictures_are_put_upright(net):
    classifier = Classifier(net)
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (classifier.prepare(clear, "clear") == 255).all()
    halves = Image.new("RGB", (8, 8), RED)
    halves.paste(BLUE, (0, 4, 8, 8))
    exif = Image.Exif()
    exif[274] = 3
    turned = Image.open(io.BytesIO(content(halves, exif=exif)))
    np.testing.assert_array_equal(classifier.prepare(turned, "turned"), np.array(halves)[::-1, ::-1])


def test_grey_pixels(net):
    (answer,) = Classifier(net).predict([np.full((8, 8, 1), 90, np.uint8)])
    assert [share for _, share in answer.top] == pytest.approx([1 / 3] * 3, abs=1e-5)


def test_the_same_rules_as_the_files_preprocessing(net):
    noise = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    classifier = Classifier(net)
    expected = classifier.artifact.description.preprocessing.arrange(
        open_image(io.BytesIO(content(Image.fromarray(noise))))
    )
    np.testing.assert_array_equal(classifier.prepare(noise, "noise"), expected)
    (answer,) = classifier.predict([noise])
    assert dict(answer.top)["red"] == pytest.approx(softmax(colour_logits(expected[None]))[0, 0], abs=1e-5)


def test_more_pictures_than_a_batch(net):
    colours = [RED, BLUE] * 20
    answers = Classifier(net).predict([picture(colour) for colour in colours], top=1)
    assert [answer.label for answer in answers] == ["red", "blue"] * 20
    assert all(len(answer.top) == 1 for answer in answers)
    assert Classifier(net).predict([]) == []


def test_unsure_answers_are_unknown(tmp_path):
    path = write_onnx(tmp_path / "net.onnx", confidence=Confidence(2.0, 0.6, "a test")).path
    unsure, sure = (100, 96, 90), (200, 10, 10)
    shares = softmax(colour_logits(np.concatenate([plain(unsure), plain(sure)])) / 2).max(axis=1)
    assert shares[0] < 0.6 < shares[1]
    answers = Classifier(path).predict([picture(unsure), picture(sure)])
    assert [answer.label for answer in answers] == [UNKNOWN, "red"]
    assert [answer.probability for answer in answers] == pytest.approx(shares.tolist(), abs=1e-5)
    assert answers[0].top[0][0] == "red"
    assert [answer.label for answer in Classifier(path, threshold=0).predict([picture(unsure)])] == ["red"]
    assert [answer.label for answer in Classifier(path, threshold=1).predict([picture(sure)])] == [UNKNOWN]
    with pytest.raises(DataError, match="from 0 to 1, not 60"):
        Classifier(path, threshold=60)


def test_all_bad_pictures_are_named(net, tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    whole = content(Image.effect_noise((64, 64), 90).convert("RGB"))
    bomb = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bomb += (50_000).to_bytes(4, "little") * 2 + b"\x01\x00\x18\x00" + bytes(24)
    files = [tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "absent.png", whole[: len(whole) // 2], bomb]
    with pytest.raises(BadImagesError) as caught:
        Classifier(net).predict([picture(RED), *files, Image.new("RGB", (0, 3))])
    reasons = {bad.name: bad.reason for bad in caught.value.bad}
    assert list(reasons) == [*map(str, files[:3]), "picture 5", "picture 6", "picture 7"]
    expected = (
        "empty file",
        "not an image",
        "no such file",
        "truncated",
        "decompression bomb: 50000x50000",
        "0x3 pixels",
    )
    for reason, said in zip(reasons.values(), expected, strict=True):
        assert reason.startswith(said)


def test_a_picture_of_pillows_that_ends_early(net):
    whole = content(Image.effect_noise((64, 64), 90).convert("RGB"))
    with pytest.raises(BadImagesError, match=r"picture 1: \S"):
        Classifier(net).predict([Image.open(io.BytesIO(whole[: len(whole) // 2]))])


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((8, 8, 3), np.float32), r"not float32 \[8, 8, 3\]"),
        (np.zeros((8, 8, 2), np.uint8), r"not uint8 \[8, 8, 2\]"),
        (np.zeros(8, np.uint8), r"not uint8 \[8\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"not uint8 \[1, 8, 8, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), r"not uint8 \[0, 8, 3\]"),
        ([[1, 2, 3]], "a list is no picture"),
    ],
)
def test_pixels_that_are_no_picture(net, pixels, said):
    with pytest.raises(DataError, match=said):
        Classifier(net).predict([pixels])


def test_golden_pairs_that_no_longer_hold(tmp_path):
    golden = describe().golden
    other = GoldenPairs(golden.images, golden.logits + np.float32(0.5), 0.01)
    path = write_onnx(tmp_path / "net.onnx", golden=other).path
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ArtifactError, match=rf"net.onnx in {backend} fp32: its golden pairs no longer hold"):
            Classifier(path, backend=backend)
    assert Classifier(path, check=False).predict([picture(RED)])[0].label == "red"


def test_golden_pairs_hold_in_every_installed_way(net):
    classifier = Classifier(net)
    for choice in choices(classifier.artifact):
        backend = open_backend(classifier.artifact, backend=choice.backend, precision=choice.precision)
        assert check_golden(classifier.artifact, backend) < 0.1


def test_a_file_that_answers_with_no_numbers(net):
    class Broken:
        name, threads, precision = "broken", 1, "fp32"

        def predict(self, images):
            return np.full((len(images), 3), np.nan, np.float32)

    classifier = Classifier(net)
    classifier.backend = Broken()
    with pytest.raises(ArtifactError, match="NaN or infinity"):
        classifier.predict([picture(RED)])


def test_what_can_not_be_opened(net, tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        Classifier(tmp_path / "absent.onnx")
    with pytest.raises(BackendError, match="no backend tensorrt"):
        Classifier(net, backend="tensorrt")
    with pytest.raises(DataError, match="top is 0"):
        Classifier(net).predict([picture(RED)], top=0)


def test_a_grey_network(tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    from mobilenets.preprocessing import Preprocessing

    ends = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, ["b", 4, 4, 1]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2]),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array([[-0.1, 0.1]], np.float32), "weight"),
        numpy_helper.from_array(np.array([12.8, -12.8], np.float32), "bias"),
    ]
    graph = helper.make_graph(nodes, "grey", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    golden = GoldenPairs(np.full((1, 4, 4, 1), 128, np.uint8), np.zeros((1, 2), np.float32), 0.01)
    described = describe(
        classes=("dark", "light"), preprocessing=Preprocessing(image_size=4, channels=1), golden=golden
    )
    write_artifact(tmp_path / "grey.onnx", {"net": model.SerializeToString()}, described)
    answers = Classifier(tmp_path / "grey.onnx").predict([picture((9, 9, 9)), np.full((6, 6, 1), 240, np.uint8)])
    assert [answer.label for answer in answers] == ["dark", "light"]


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-(2.0**40), 2.0**40, width=32)
    )
)
def test_probabilities_add_up_and_keep_the_order(logits):
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities >= 0).all()
    best = probabilities[np.arange(len(logits)), logits.argmax(axis=1)]
    np.testing.assert_array_equal(best, probabilities.max(axis=1))
