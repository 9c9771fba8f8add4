import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from mobilenets.data.splits import halves
from mobilenets.errors import DataError
from mobilenets.exporters.confidence import (
    calibrate,
    choose_threshold,
    evaluate_confidence,
    find_confidence,
    fit_temperature,
)


def drawn(count: int, temperature: float, classes: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose probabilities at this temperature are the true ones, and labels drawn from those."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (count, classes))
    labels = np.array([random.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return (logits * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(4000, temperature)) == pytest.approx(temperature, rel=0.1)


def test_calibrating_brings_confidence_and_accuracy_together() -> None:
    calibration = calibrate(*drawn(4000, 3.0), "drawn images")
    assert calibration is not None
    assert calibration.ece_after < 3 < calibration.ece_before
    assert calibration.images == 2000
    # Computed on the other half: what is left unknown is likelier wrong than right, and a tenth surer it is not.
    assert calibration.answered_top1 is not None
    assert calibration.unknown_top1 is not None
    assert calibration.unknown_top1 < 50 < calibration.answered_top1
    assert calibration.confidence.threshold == pytest.approx(0.5, abs=0.1)
    basis = calibration.confidence.basis
    assert basis.startswith("answers likelier right than wrong; found on 2000 drawn images; on 2000 others")
    assert f"{calibration.coverage:.1f} % are answered, {calibration.answered_top1:.1f} % of them right" in basis
    assert f"unknown {calibration.unknown_top1:.1f} % would have been" in basis


def test_a_higher_demand_leaves_more_unknown() -> None:
    found = [calibrate(*drawn(4000, 1.0), "images", min_accuracy=accuracy) for accuracy in (0.0, 0.5, 0.9)]
    coverages = [calibration.coverage for calibration in found if calibration is not None]
    assert coverages[0] == 100 > coverages[1] > coverages[2]
    assert found[2] is not None
    assert found[2].confidence.threshold == pytest.approx(0.9, abs=0.05)
    assert found[2].confidence.basis.startswith("answers at least 90 % likely right;")


@pytest.mark.parametrize("accuracy", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range(accuracy: float) -> None:
    with pytest.raises(DataError, match="from 0 to below 1"):
        calibrate(*drawn(200, 1.0), "images", min_accuracy=accuracy)


def test_a_network_without_a_mistake_is_not_sure_of_everything() -> None:
    labels = np.arange(200) % 4
    logits = 2.0 * np.eye(4, dtype=np.float32)[labels]
    calibration = calibrate(logits, labels, "images")
    assert calibration is not None
    probability = float(softmax(logits[:1] / calibration.confidence.temperature).max())
    assert 0.97 < probability < 0.999
    assert (calibration.coverage, calibration.answered_top1) == (100, 100)


def test_a_demand_that_can_not_be_met_is_said() -> None:
    random = np.random.default_rng(0)
    calibration = calibrate(random.normal(0, 1, (400, 10)).astype(np.float32), random.integers(0, 10, 400), "images")
    assert calibration is not None
    assert calibration.confidence.basis.startswith("no answers were likelier right than wrong, these came nearest;")


def test_too_few_images_calibrate_nothing() -> None:
    assert calibrate(*drawn(99, 1.0), "images") is None


def test_what_some_images_find_others_tell() -> None:
    logits, labels = drawn(400, 3.0)
    found = find_confidence(logits[:300], labels[:300], "300 validation images")
    assert found is not None
    told = evaluate_confidence(found, logits[300:], labels[300:], "100 test images")
    assert (told.confidence.temperature, told.confidence.threshold) == (found.temperature, found.threshold)
    assert (told.images, told.confidence.basis.startswith(f"{found.basis}; on 100 test images ")) == (100, True)
    assert found.basis == "answers likelier right than wrong; found on 300 validation images"
    assert find_confidence(logits[:49], labels[:49], "49 images") is None


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.integers(0, 3))
def test_halves_share_every_class(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    first, second = halves(array, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for label in set(labels):
        assert abs(int((array[first] == label).sum()) - int((array[second] == label).sum())) <= 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=30, max_size=120))
def test_no_other_threshold_is_worth_more(answers: list[tuple[int, bool]]) -> None:
    sure = np.array([answer[0] / 10 for answer in answers])
    right = np.array([answer[1] for answer in answers])
    threshold, kept = choose_threshold(sure, right, 0.8)
    places = [value for value in np.unique(sure) if (sure >= value).sum() >= 20]
    worth = {value: round(float((right[sure >= value] - 0.8).sum()), 9) for value in places}
    assert kept == (max(worth.values()) >= 0)
    if kept:
        best = min(value for value in places if worth[value] == max(worth.values()))
        assert threshold == pytest.approx(max(best, np.quantile(sure[right], 0.01)), abs=2e-4)


def test_one_class_has_no_temperature() -> None:
    assert fit_temperature(np.ones((5, 1), np.float32), np.zeros(5, np.int64)) == 1
