import json

import numpy as np
import pytest
from described import describe

from mobilenets.artifact.description import Confidence, Description, Settings
from mobilenets.errors import ArtifactError
from mobilenets.preprocessing import Preprocessing


def test_everything_comes_back():
    described = describe(
        classes=("Pâté", '"digest": ""', "青"),
        confidence=Confidence(1.7, 0.4, "validation images"),
        settings=Settings("openvino", "bf16", 2),
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
