import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from mobilenets.errors import DataError
from mobilenets.evaluation.predictions import (
    NO_CLASS,
    compute_metrics,
    correct_answers,
    expected_calibration_error,
    predicted_classes,
    top1_accuracy,
    top1_agreement,
    true_class_ranks,
)
from mobilenets.evaluation.results import ClassScore, Metrics

DIGITS = tuple("0123456789")


@st.composite
def answers(draw):
    """Labels and log-probabilities, with many ties among the scores."""
    images, classes = draw(st.integers(1, 30)), draw(st.integers(2, 8))
    labels = draw(hnp.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    logits = draw(hnp.arrays(np.float64, (images, classes), elements=st.integers(-6, 6).map(float)))
    return labels, log_softmax(logits, axis=1), tuple(f"class {index}" for index in range(classes))


@pytest.mark.slow
@given(answers())
def test_invariants(case):
    labels, logs, classes = case
    metrics = compute_metrics(labels, logs, classes)
    confusion = np.array(metrics.confusion)
    assert confusion.sum() == metrics.count == len(labels)
    assert confusion.sum(axis=1).tolist() == [score.count for score in metrics.classes]
    assert metrics.top1 == pytest.approx(100 * np.trace(confusion) / len(labels))
    assert 0 <= metrics.top1 <= metrics.top5 <= 100
    assert 0 <= metrics.ece <= 100
    assert metrics.loss >= 0
    if len(classes) <= 5:
        assert metrics.top5 == 100


@pytest.mark.slow
@given(answers())
def test_perfect_answers_score_perfectly(case):
    labels, _, classes = case
    certain = np.where(np.eye(len(classes), dtype=bool)[labels], 0.0, -1000.0)
    metrics = compute_metrics(labels, certain, classes)
    assert (metrics.top1, metrics.top5, metrics.loss) == (100, 100, 0)
    assert metrics.ece == pytest.approx(0)
    assert all(score.recall == score.precision == 100 for score in metrics.classes if score.count)


def test_agrees_with_scikit_learn_on_real_scans():
    images, labels = load_digits(return_X_y=True)
    logs = LogisticRegression(C=1e-4).fit(images[:300], labels[:300]).predict_log_proba(images[300:])
    labels = labels[300:]
    metrics = compute_metrics(labels, logs, DIGITS)
    assert 50 < metrics.top1 < 100
    assert metrics.top1 == pytest.approx(100 * accuracy_score(labels, logs.argmax(axis=1)))
    assert metrics.top5 == pytest.approx(100 * top_k_accuracy_score(labels, logs, k=5))
    assert metrics.loss == pytest.approx(log_loss(labels, np.exp(logs)))
    precision, recall, _, count = precision_recall_fscore_support(labels, logs.argmax(axis=1))
    assert [score.precision for score in metrics.classes] == pytest.approx(100 * precision)
    assert [score.recall for score in metrics.classes] == pytest.approx(100 * recall)
    assert [score.count for score in metrics.classes] == count.tolist()


def test_calibration_error_by_hand():
    # Bin (0.6, 0.667]: 2 images, mean confidence 0.65, half right. Bin (0.867, 0.933]: 2 images at 0.9, both right.
    confidence, correct = np.array([0.64, 0.66, 0.9, 0.9]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx(100 * (2 * 0.15 + 2 * 0.1) / 4)


def test_calibration_bins_are_closed_on_the_right():
    # 0.5 belongs to (0, 0.5], so the errors of the two images do not cancel as they would in one bin.
    confidence, correct = np.array([0.5, 0.6]), np.array([True, False])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(100 * (0.5 + 0.6) / 2)


@given(st.integers(0, 2**32 - 1))
def test_calibration_error_equals_a_loop_over_the_bins(seed):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(50), rng.random(50) < 0.7
    total = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            total += inside.sum() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(100 * total / 50)


def test_ranks_order_ties_as_argmax_does():
    scores = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    assert true_class_ranks(np.array([0, 2]), scores).tolist() == [0, 1]
    assert true_class_ranks(np.array([2, 1]), scores).tolist() == [2, 0]


def test_classes_without_images_or_calls_score_zero():
    metrics = compute_metrics(np.array([0, 0]), np.log([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), ("a", "b", "c"))
    assert [(score.count, score.recall, score.precision) for score in metrics.classes] == [
        (2, 50, 100),
        (0, 0, 0),
        (0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        ([], (0, 2), "no images"),
        ([0, 1], (2, 3), "are these the classes"),
        ([0, 2], (2, 2), "image 1 has label 2"),
        ([-1], (1, 2), "-1"),
    ],
)
def test_bad_input(labels, shape, message):
    with pytest.raises(DataError, match=message):
        compute_metrics(np.array(labels, dtype=np.int64), np.zeros(shape), ("a", "b"))


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_macro_averages_and_f1_are_scikit_learns_over_the_classes_that_have_images(seed, classes):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(classes, 0.4))  # uneven, some classes without images
    labels = rng.choice(classes, size=40, p=weights)
    logs = np.log(rng.dirichlet(np.ones(classes), size=40))
    metrics = compute_metrics(labels, logs, [str(index) for index in range(classes)])
    called, present = logs.argmax(axis=1), np.unique(labels)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert metrics.macro_recall == pytest.approx(100 * recall_score(labels, called, **options))
    assert metrics.macro_precision == pytest.approx(100 * precision_score(labels, called, **options))
    assert metrics.macro_f1 == pytest.approx(100 * f1_score(labels, called, **options))
    with warnings.catch_warnings():  # it warns of predicted classes without images
        warnings.simplefilter("ignore", UserWarning)
        assert metrics.macro_recall == pytest.approx(100 * balanced_accuracy_score(labels, called))
    every = f1_score(labels, called, labels=np.arange(classes), average=None, zero_division=0)
    assert [score.f1 for score in metrics.classes] == pytest.approx(100 * every)


def test_what_files_of_earlier_versions_lack_is_worked_out():
    old = Metrics(9, 0.1, 90.0, 99.0, 1.0, (ClassScore("a", 5, 80.0, 60.0), ClassScore("b", 0, 0.0, 0.0)), ())
    assert old.classes[0].f1 == pytest.approx(2 * 80 * 60 / 140)
    assert old.classes[1].f1 == 0.0
    assert (old.macro_recall, old.macro_precision, old.macro_f1) == (80.0, 60.0, old.classes[0].f1)
    assert Metrics(9, 0.1, 90.0, 99.0, 1.0, (), ()).macro_recall == 0.0


NOT_FINITE = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("whole_row", [True, False])
def test_an_answer_that_is_not_finite_is_wrong_everywhere(value: float, whole_row: bool) -> None:
    # Class 0 is the true one of every image: what argmax makes of a row of NaN.
    labels = np.zeros(4, np.int64)
    logits = np.tile(np.array([3.0, 1.0, 0.0], np.float32), (4, 1))
    logits[1, slice(None) if whole_row else 0] = value
    logits[2, slice(None) if whole_row else 2] = value
    assert predicted_classes(logits).tolist() == [0, NO_CLASS, NO_CLASS, 0]
    assert correct_answers(labels, logits).tolist() == [True, False, False, True]
    assert top1_accuracy(labels, logits) == 50
    assert top1_agreement(logits, logits) == 50
    assert true_class_ranks(labels, logits).tolist() == [0, 3, 3, 0]
    with np.errstate(invalid="ignore"):
        metrics = compute_metrics(labels, logits - 4, ("a", "b", "c"))
    assert (metrics.top1, metrics.top5) == (50, 50)  # top-3 of three classes, which every finite answer is within
    assert metrics.confusion == ((2, 0, 0), (0, 0, 0), (0, 0, 0))
    assert [score.recall for score in metrics.classes] == [50, 0, 0]
    assert metrics.loss == np.inf
    # Two images sure of exp(-1), right; two that answer nothing count as sure of nothing.
    assert metrics.ece == pytest.approx(100 * (1 - np.exp(-1)) / 2)


@pytest.mark.slow
@given(answers())
def test_one_top1_for_all(case):
    labels, logs, classes = case
    metrics = compute_metrics(labels, logs, classes)
    assert metrics.top1 == pytest.approx(top1_accuracy(labels, logs))
    assert metrics.top1 == pytest.approx(100 * correct_answers(labels, logs).mean())
    assert (predicted_classes(logs) == logs.argmax(axis=1)).all()
    assert top1_agreement(logs, logs) == 100
