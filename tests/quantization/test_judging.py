"""Judging: two halves that share no image, the same for every file."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset
from mobilenets.errors import DataError, ModelError
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.images import Judge, prepare_judge

TINY = Preprocessing(image_size=8)


@pytest.fixture(scope="module")
def judge(digits: Dataset) -> Judge:
    return prepare_judge(digits.test, TINY, digits.classes, seed=0)


def truth(judge: Judge) -> NDArray[np.float32]:
    return np.eye(10, dtype=np.float32)[judge.labels]


def test_halves_are_disjoint_stratified_and_whole(judge: Judge) -> None:
    both = np.concatenate([judge.selection, judge.report])
    assert sorted(both.tolist()) == list(range(len(judge.labels)))
    first, second = (np.bincount(judge.labels[half], minlength=10) for half in (judge.selection, judge.report))
    assert np.abs(first - second).max() <= 1


def test_accuracy_is_that_of_each_half(judge: Judge) -> None:
    logits = truth(judge)
    logits[judge.report] = np.roll(logits[judge.report], 1, axis=1)  # all wrong there
    top1 = judge.top1(logits)
    assert (top1.selection, top1.report) == (100, 0)
    assert top1.whole == pytest.approx(100 * len(judge.selection) / len(judge.labels))


def test_all_validation_images_decide(digits: Dataset) -> None:
    judge = prepare_judge(digits.test, TINY, digits.classes, validated=True)
    assert len(judge.selection) == len(judge.labels)
    top1 = judge.top1(truth(judge))
    assert (top1.selection, top1.report, top1.whole) == (100, None, 100)
    assert top1.drop_from(judge.top1(truth(judge))).report is None


def test_answers_that_are_no_numbers_are_wrong(judge: Judge) -> None:
    logits = truth(judge)
    logits[:, :] = np.nan
    assert judge.top1(logits).whole == 0  # argmax of them is 0, which would be right for the first class


def test_logits_come_in_the_images_order(judge: Judge, digits: Dataset) -> None:
    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)[:, None], (1, 10))

    sums = judge.logits(predict)[:, 0]
    expected = [TINY.arrange(source.open()).sum() for source in digits.test.sources[:50]]
    assert sums[:50].tolist() == expected


def test_fewer_images_are_drawn_evenly(digits: Dataset) -> None:
    few = prepare_judge(digits.test, TINY, digits.classes, seed=0, max_images=40)
    assert np.bincount(few.labels).tolist() == [4] * 10
    assert few.majority == 10.0


def test_what_cannot_be_judged_is_refused(judge: Judge, digits: Dataset) -> None:
    with pytest.raises(DataError, match="max_images must be at least 2, not 1"):
        prepare_judge(digits.test, TINY, digits.classes, max_images=1)
    with pytest.raises(DataError, match="1 image"):
        prepare_judge(digits.test.take(np.array([0])), TINY, digits.classes)
    with pytest.raises(DataError, match="no test images"):
        prepare_judge(digits.test.take(np.array([], dtype=np.int64)), TINY, digits.classes)
    with pytest.raises(ModelError, match=r"logits \[32, 3\]"):
        judge.logits(lambda images: np.zeros((len(images), 3), np.float32))
