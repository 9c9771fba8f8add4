import math

import numpy as np
import pytest

from mobilenets.errors import DataError, ModelError, RunError
from mobilenets.evaluation.predictions import Predictions, evaluate_predictions

CLASSES = ("dark", "bright")


def brightness(images):
    """Logits by mean brightness: enough of a classifier to be right and wrong in known places."""
    level = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32) / 25.5 - 5
    return np.stack([-level, level], axis=1).astype(np.float32)


def grey(*levels):
    return np.stack([np.full((4, 4, 3), level, dtype=np.uint8) for level in levels])


def test_scores_all_batches_and_keeps_the_answers():
    seen = []
    result = evaluate_predictions(
        brightness, [(grey(0, 255), [0, 1]), (grey(10), np.array([1]))], CLASSES, progress=seen.append
    )
    assert seen == [2, 3]
    assert result.metrics.count == 3
    assert result.metrics.top1 == pytest.approx(200 / 3)
    assert result.metrics.confusion == ((1, 0), (1, 1))
    predictions = result.predictions
    assert predictions.predicted.tolist() == [0, 1, 0]
    assert predictions.correct.tolist() == [True, True, False]
    assert (predictions.labels.dtype, predictions.probabilities.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert predictions.confidence[0] == pytest.approx(1 / (1 + math.exp(-10)))


def test_the_size_of_batches_does_not_matter():
    images, labels = grey(*range(0, 256, 5)), np.arange(52) % 2
    whole = evaluate_predictions(brightness, [(images, labels)], CLASSES)
    parts = evaluate_predictions(brightness, [(images[i : i + 7], labels[i : i + 7]) for i in range(0, 52, 7)], CLASSES)
    assert whole.metrics == parts.metrics
    np.testing.assert_array_equal(whole.predictions.probabilities, parts.predictions.probabilities)


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    def sure(images):
        return np.tile(np.array([1e4, -1e4], dtype=np.float32), (len(images), 1))

    metrics = evaluate_predictions(sure, [(grey(0), [1])], CLASSES).metrics
    assert metrics.loss == 2e4
    assert metrics.ece == 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers(value):
    def broken(images):
        logits = brightness(images)
        logits[-1, 0] = value
        return logits

    with pytest.raises(ModelError, match="answer to image 1 is infinite or not a number"):
        evaluate_predictions(broken, [(grey(0, 1), [0, 0])], CLASSES)


def test_a_network_of_other_classes():
    with pytest.raises(ModelError, match="not made for these 3 classes"):
        evaluate_predictions(brightness, [(grey(0), [0])], ("a", "b", "c"))


def test_no_images():
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate_predictions(brightness, [], CLASSES)


@pytest.mark.parametrize(("labels", "message"), [([0, 1], "labels of shape"), ([0.5], "integers"), ([2], "label 2")])
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(DataError, match=message):
        evaluate_predictions(brightness, [(grey(0), labels)], CLASSES)


def test_predictions_come_back_from_their_file(tmp_path):
    saved = evaluate_predictions(brightness, [(grey(0, 100, 255), [0, 1, 1])], CLASSES).predictions
    saved.save(tmp_path / "deep" / "predictions.npz")
    loaded = Predictions.load(tmp_path / "deep" / "predictions.npz")
    np.testing.assert_array_equal(loaded.labels, saved.labels)
    np.testing.assert_array_equal(loaded.probabilities, saved.probabilities)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["predictions.npz"]


def test_damaged_predictions_are_named(tmp_path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(RunError, match="missing"):
        Predictions.load(path)
    evaluate_predictions(brightness, [(grey(0), [0])], CLASSES).predictions.save(path)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(RunError, match="no predictions file"):
            Predictions.load(path)
    np.savez(path, labels=np.zeros(3), probabilities=np.zeros((3, 2), np.float32))
    with pytest.raises(RunError, match="does not hold labels"):
        Predictions.load(path)
    np.savez(path, labels=np.array([object()]), probabilities=np.zeros((1, 2), np.float32))
    with pytest.raises(RunError, match="no predictions file"):
        Predictions.load(path)
