import json

import numpy as np
import pytest
from described import describe

from mobilenets.artifact.description import Confidence, Description, RuntimeSettings
from mobilenets.errors import ArtifactError
from mobilenets.preprocessing import Preprocessing


def test_everything_comes_back():
    described = describe(
        classes=("Pâté", '"digest": ""', "青"),
        confidence=Confidence(1.7, 0.4, "validation images"),
        settings=RuntimeSettings("openvino", "bf16", 2),
        digest="sha256:0",
    )
    back = Description.from_json(described.to_json(), "here")
    np.testing.assert_array_equal(back.golden.images, described.golden.images)
    np.testing.assert_array_equal(back.golden.logits, described.golden.logits)
    same = {name: value for name, value in vars(described).items() if name != "golden"}
    assert {name: getattr(back, name) for name in same} == same
    assert back.image_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "tensorrt"}, "not tensorrt in fp32"),
        ({"precision": "fp8"}, "not onnx in fp8"),
        ({"classes": ("a", "b")}, "3 logits for 2 classes"),
        ({"preprocessing": Preprocessing(image_size=9)}, r"golden images are \[8, 8, 3\], the network's \[9, 9, 3\]"),
    ],
)
def test_parts_that_are_not_of_one_file(change, said):
    with pytest.raises(ArtifactError, match=said):
        describe(**change)


@pytest.mark.parametrize(("temperature", "threshold"), [(0.0, 0.5), (float("inf"), 0.5), (1.0, 1.1), (1.0, -0.1)])
def test_a_confidence_that_can_not_be(temperature, threshold):
    with pytest.raises(ArtifactError, match="a temperature is above 0"):
        Confidence(temperature, threshold, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "of format 1, not 2; export it again"),
        ({"format": 3}, r"is of format 3, and this version of mobilenets knows up to 2: update mobilenets$"),
        ({"format": "3"}, "of format 3, not 2; export it again"),
        ({"kind": None}, "damaged"),
        ({"network": 3}, "damaged"),
        ({"preprocessing": {"image_size": 8}}, "missing key"),
        ({"golden": {}}, "lacks 'images'"),
        ({"confidence": {"temperature": 1}}, "damaged"),
        ({"settings": {"speed": 1}}, "damaged"),
        ({"provenance": []}, "damaged"),
    ],
)
def test_a_damaged_document_is_named_in_one_line(change, said):
    document = {**json.loads(describe().to_json()), **change}
    with pytest.raises(ArtifactError, match=rf"^here: its description .*{said}") as caught:
        Description.from_json(json.dumps(document), "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", sorted(json.loads(describe().to_json())))
def test_every_field_must_be_there(field):
    document = json.loads(describe().to_json())
    del document[field]
    with pytest.raises(ArtifactError, match="here: its description"):
        Description.from_json(json.dumps(document), "here")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", b"\xff\xfe{"])
def test_no_document_at_all(text):
    with pytest.raises(ArtifactError, match="here: its description"):
        Description.from_json(text, "here")


def damaged(path, value):
    """A document with one field of another type; `path` names it, parts by dots."""
    document = json.loads(
        describe(confidence=Confidence(1.5, 0.4, "images"), settings=RuntimeSettings("openvino", "fp32", 2)).to_json()
    )
    *above, last = path.split(".")
    holder = document
    for part in above:
        holder = holder[part]
    holder[last] = value
    return json.dumps(document)


FIELDS = {
    "kind": "text", "precision": "text", "network": "a table", "classes": "a list of one or more texts",
    "preprocessing": "a table", "dynamic_batch": "true or false", "golden": "a table", "provenance": "a table of texts",
    "digest": "text", "golden.images": "a list of one or more texts", "golden.logits": "text",
    "golden.tolerance": "a number", "confidence.temperature": "a number", "confidence.threshold": "a number",
    "confidence.basis": "text", "settings.backend": "text", "settings.precision": "text",
    "settings.threads": "a whole number from 1", "confidence": "a table or null", "settings": "a table or null",
}  # fmt: skip
FIT = {
    "text": ["x"], "a table": [{}], "true or false": [True], "a number": [7, 2.5], "a whole number from 1": [7],
    "a table or null": [{}, None], "a table of texts": [{}], "a list of one or more texts": [["x"]],
}  # fmt: skip
VALUES = [None, True, 7, 2.5, 0, "x", "", [], ["x"], [1], {}, {"x": 1}, [[]]]


def refusal(document):
    """What is said of a document; nothing where it is read."""
    try:
        Description.from_json(document, "here.onnx")
    except ArtifactError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_of_every_wrong_type_is_one_clear_line(path):
    for value in VALUES:
        said = refusal(damaged(path, value))
        assert said == "" or (said.startswith("here.onnx: its description ") and "\n" not in said)
        fits = any(type(value) is type(fit) for fit in FIT[FIELDS[path]])
        assert fits or f"({path} is {FIELDS[path]}, not {value!r})" in said


def test_a_backend_of_the_wrong_type_is_told_by_name():
    for value in ([], {}, 5, None):
        with pytest.raises(ArtifactError, match=r"here: its description is damaged \(settings.backend is text, not"):
            Description.from_json(damaged("settings.backend", value), "here")


def test_golden_images_that_are_none_or_gigantic():
    import base64
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0))
    bomb = base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")).decode()
    for image in (bomb, "", "no base64!", base64.b64encode(b"no picture").decode()):
        with pytest.raises(ArtifactError, match="here: its description is damaged"):
            Description.from_json(damaged("golden.images", [image]), "here")
