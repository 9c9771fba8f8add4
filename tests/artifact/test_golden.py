from dataclasses import replace

import numpy as np
import pytest
from described import colour_logits, plain
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mobilenets.artifact.golden import GoldenAnswer, GoldenPairs
from mobilenets.errors import ArtifactError

IMAGES = plain((200, 90, 10), 2)
PAIRS = GoldenPairs(IMAGES, colour_logits(IMAGES), 0.01)


def test_the_same_answers_hold():
    assert PAIRS.ask(colour_logits, "here") == GoldenAnswer(0, 0.01, 2, 2)
    near = PAIRS.ask(lambda images: colour_logits(images) + np.float32(0.005), "here")
    assert near.holds
    assert near.difference == pytest.approx(0.005, abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda logits: logits + np.float32(0.02), "a logit differs by 0.02, more than 0.01; 2 of 2 images keep"),
        (lambda logits: -logits, "more than 0.01; 0 of 2 images keep their class"),
        (lambda logits: logits * np.float32(np.nan), "a logit differs by nan, more than 0.01"),
        (lambda logits: logits + np.float32(np.inf), "a logit differs by inf, more than 0.01"),
    ],
)
def test_other_answers_do_not(answer, said):
    found = PAIRS.ask(lambda images: answer(colour_logits(images)), "here")
    assert not found.holds
    assert said in found.figures


def test_answers_of_another_shape():
    with pytest.raises(ArtifactError, match=r"logits \[2, 2\], not \[2, 3\]"):
        PAIRS.ask(lambda images: colour_logits(images)[:, :2], "here")


def test_the_bound_is_that_of_runtime_and_arithmetic_then_of_the_arithmetic_then_the_old_rule():
    measured = replace(PAIRS, bounds={"openvino bf16": 0.3, "bf16": 0.4, "int8": 0.7})
    assert measured.allowed("openvino", "bf16") == 0.3
    assert measured.allowed("elsewhere", "bf16") == 0.4
    assert measured.allowed("onnxruntime", "int8") == 0.7
    assert measured.allowed("onnxruntime", "fp32") == 0.01
    # Files of earlier versions: a twentieth of the greatest logit for bf16, a hundredth for fp16.
    greatest = float(np.abs(PAIRS.logits).max())
    assert PAIRS.allowed("openvino", "bf16") == pytest.approx(greatest / 20)
    assert PAIRS.allowed("openvino", "fp16") == pytest.approx(greatest / 100)
    old = PAIRS.to_dict()
    del old["bounds"]
    assert GoldenPairs.from_dict(old).bounds == {}
    assert GoldenPairs.from_dict(measured.to_dict()).bounds == measured.bounds


@given(
    arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3)))
    ),
    st.integers(1, 5).flatmap(
        lambda classes: arrays.arrays(np.float32, classes, elements=st.floats(-(2.0**60), 2.0**60, width=32))
    ),
)
def test_they_come_back_bit_by_bit(images, row):
    logits = np.repeat(row[None], len(images), axis=0)
    back = GoldenPairs.from_dict(GoldenPairs(images, logits, 0.5).to_dict())
    np.testing.assert_array_equal(back.images, images)
    np.testing.assert_array_equal(back.logits, logits)
    assert back.tolerance == 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": IMAGES.astype(np.float32)}, "golden images are uint8"),
        ({"images": IMAGES[0]}, "golden images are uint8"),
        ({"logits": PAIRS.logits.astype(np.float64)}, "finite float32"),
        ({"logits": PAIRS.logits * np.float32(np.inf)}, "finite float32"),
        ({"logits": PAIRS.logits[:1]}, "2 golden images can't go with 1 answers"),
        ({"images": IMAGES[:0], "logits": PAIRS.logits[:0]}, "0 golden images"),
        ({"tolerance": 0.0}, "above 0"),
        ({"tolerance": float("nan")}, "above 0"),
        ({"bounds": {"openvino bf16": 0.0}}, "the bound of openvino bf16 is a number above 0"),
        ({"bounds": {"bf16": float("inf")}}, "the bound of bf16 is a number above 0"),
    ],
)
def test_arrays_that_are_no_pairs(change, said):
    with pytest.raises(ArtifactError, match=said):
        GoldenPairs(**{**vars(PAIRS), **change})


@pytest.mark.parametrize("change", [{"images": ["AAAA"]}, {"images": ["?"]}, {"logits": "AAA="}, {"images": []}])
def test_damaged_text(change):
    with pytest.raises(ArtifactError, match="golden pairs can't be read"):
        GoldenPairs.from_dict({**PAIRS.to_dict(), **change})
