import numpy as np
import pytest
from described import colour_logits, plain
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError

IMAGES = plain((200, 90, 10), 2)
PAIRS = GoldenPairs(IMAGES, colour_logits(IMAGES), 0.01)


def test_the_same_answers_hold():
    assert PAIRS.check(colour_logits, "here") == 0
    assert PAIRS.check(lambda images: colour_logits(images) + np.float32(0.005), "here") == pytest.approx(
        0.005, abs=1e-5
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda logits: logits + np.float32(0.02), r"here: its golden pairs no longer hold: a logit differs by 0.02"),
        (lambda logits: logits * np.float32(np.nan), "no longer hold: a logit differs by nan"),
        (lambda logits: logits[:, :2], r"logits \[2, 2\], not \[2, 3\]"),
    ],
)
def test_other_answers_do_not(answer, said):
    with pytest.raises(ArtifactError, match=said):
        PAIRS.check(lambda images: answer(colour_logits(images)), "here")


def test_coarser_arithmetic_may_lose_a_share_of_the_greatest_logit():
    def rough(images):
        return colour_logits(images) + np.float32(0.05)

    assert PAIRS.check(rough, "here", share=0.01) == pytest.approx(0.05, abs=1e-5)
    with pytest.raises(ArtifactError, match=r"more than 0\.04"):
        PAIRS.check(rough, "here", share=0.004)


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
    ],
)
def test_arrays_that_are_no_pairs(change, said):
    with pytest.raises(ArtifactError, match=said):
        GoldenPairs(**{**vars(PAIRS), **change})


@pytest.mark.parametrize("change", [{"images": ["AAAA"]}, {"images": ["?"]}, {"logits": "AAA="}, {"images": []}])
def test_damaged_text(change):
    with pytest.raises(ArtifactError, match="golden pairs can't be read"):
        GoldenPairs.from_dict({**PAIRS.to_dict(), **change})
