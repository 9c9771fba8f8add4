from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from mobilenets.data.loader import PreparedImages
from mobilenets.evaluation.predictions import Predictions
from mobilenets.workflows.compare import confident_mistakes

CLASSES = [str(digit) for digit in range(10)]


def predictions(images: PreparedImages, wrong: dict[int, float]) -> Predictions:
    """Right everywhere with probability 1, but at `wrong` called the next class with the probability given."""
    probabilities = np.eye(10, dtype=np.float32)[images.labels]
    for index, confidence in wrong.items():
        truth = images.labels[index]
        probabilities[index] = 0
        probabilities[index, truth] = 1 - confidence
        probabilities[index, (truth + 1) % 10] = confidence
    return Predictions(images.labels, probabilities)


def test_only_wrong_answers_surest_first(few_digits: PreparedImages) -> None:
    found = confident_mistakes(predictions(few_digits, {3: 0.6, 17: 0.9, 40: 0.75}), few_digits, CLASSES)
    assert [one.image for one in found] == [few_digits.names[index] for index in (17, 40, 3)]
    assert [round(one.confidence) for one in found] == [90, 75, 60]
    first = found[0]
    assert first.truth == CLASSES[few_digits.labels[17]]
    assert first.predicted == CLASSES[(few_digits.labels[17] + 1) % 10]


def test_the_thumbnail_is_the_image_as_the_network_saw_it(few_digits: PreparedImages) -> None:
    (one,) = confident_mistakes(predictions(few_digits, {5: 0.8}), few_digits, CLASSES)
    head, _, content = one.thumbnail.partition(",")
    assert head == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    np.testing.assert_array_equal(np.asarray(picture), few_digits.batch([5])[0])


def test_no_more_than_asked_for_and_none_where_all_is_right(few_digits: PreparedImages) -> None:
    many = predictions(few_digits, dict.fromkeys(range(20), 0.7))
    assert len(confident_mistakes(many, few_digits, CLASSES, most=4)) == 4
    assert confident_mistakes(predictions(few_digits, {}), few_digits, CLASSES) == ()
