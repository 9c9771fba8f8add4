"""Scores of an image classifier on labelled images: accuracy, loss, figures of each class, confusion, calibration.

Everything is computed from two arrays, the true labels `[N]` and the log-probabilities `[N, K]`, so that whoever made
the answers (PyTorch, an int8 network, an ONNX file) is scored by the same code.

An answer that holds NaN or infinity names no class, and is wrong wherever answers are counted: `argmax` would take the
first NaN for the largest number, and a damaged file that answers nothing but NaN would be right of the first class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mobilenets.errors import DataError
from mobilenets.evaluation.results import ClassScore, Metrics

CALIBRATION_BINS = 15
NO_CLASS = -1
"""What is predicted where an answer holds NaN or infinity."""


def compute_metrics(
    labels: NDArray[np.integer], log_probabilities: NDArray[np.floating], classes: Sequence[str]
) -> Metrics:
    """Score answers against the truth.

    Args:
        labels: true class indices `[N]`.
        log_probabilities: natural logarithms of the class probabilities `[N, K]`. Logarithms, because the loss of a
            confident mistake needs probabilities far below what float32 can hold.
        classes: the K class names in output order.

    Returns:
        Loss in nats, everything else in percent; top-5 is top-K where there are fewer than 5 classes. A class without
        images has recall 0, one that is never called precision 0: `count` and `confusion` tell these cases apart.
        Macro averages are over the classes that have images. Answers with NaN or infinity are wrong, are in no column
        of `confusion`, and count as answers of probability 0 in the calibration error and in the loss.

    Raises:
        DataError: no images, shapes that do not belong together, or a label outside 0..K-1.
    """
    _check(labels, log_probabilities, classes)
    ranks = true_class_ranks(labels, log_probabilities)
    answered = np.isfinite(log_probabilities).all(axis=1)
    predicted = predicted_classes(log_probabilities)
    confusion = confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    scores = class_scores(labels, predicted, classes)
    probabilities = np.where(answered, np.exp(log_probabilities.max(axis=1).astype(np.float64)), 0.0)
    of_truth = np.where(answered, log_probabilities[np.arange(len(labels)), labels], -np.inf)
    return Metrics(
        count=len(labels),
        loss=-float(of_truth.mean(dtype=np.float64)),
        top1=100 * float((ranks < 1).mean()),
        top5=100 * float((ranks < min(5, len(classes))).mean()),
        ece=expected_calibration_error(probabilities, predicted == labels),
        classes=scores,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def predicted_classes(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """The class each answer `[N, K]` names, `[N]`: that of the greatest score, the first of equals.

    `NO_CLASS` where a score is NaN or infinite. Scores may be logits, probabilities or their logarithms.
    """
    predicted: NDArray[np.intp] = np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), NO_CLASS)
    return predicted


def correct_answers(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which answers `[N, K]` name the true class, `[N]`; one with NaN or infinity does not."""
    correct: NDArray[np.bool_] = predicted_classes(scores) == labels
    return correct


def top1_accuracy(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Percent of answers `[N, K]` that name the true class."""
    return 100 * float(correct_answers(labels, scores).mean())


def top1_agreement(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Percent of images of which two sets of answers `[N, K]` name the same class; NaN or infinity agrees with none."""
    named = predicted_classes(first)
    return 100 * float(((named == predicted_classes(second)) & (named != NO_CLASS)).mean())


def true_class_ranks(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Place of the true class in each image's answer, `[N]`: 0 is the first guess.

    Equal scores are ordered by class index, as `argmax` does, so that top-1 here is the confusion matrix's diagonal and
    never above top-5. (`sklearn.metrics.top_k_accuracy_score` orders ties the other way round.) Behind all K classes,
    at K, where a score is NaN or infinite.
    """
    truth = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = scores > truth
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    ranks = (ahead | ((scores == truth) & earlier)).sum(axis=1)
    answered = np.isfinite(scores).all(axis=1)
    checked: NDArray[np.intp] = np.where(answered, ranks, scores.shape[1])
    return checked


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """How far confidence is from accuracy, in percentage points: 0 is perfect calibration.

    Images are put in `bins` bins of equal width by the probability of their first guess; the error is the mean of
    |accuracy - mean confidence| over the bins, weighted by their images.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3; bins closed on the right.
    """
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of = np.digitize(confidence, inner_edges, right=True)
    surplus = np.bincount(bin_of, weights=confidence - correct, minlength=bins)
    return 100 * float(np.abs(surplus).sum() / len(confidence))


def class_scores(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Recall, precision and F1 (percent) of every class from true and called class indices, both `[N]`."""
    precision, recall, f1, counts = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0
    )
    return tuple(
        ClassScore(name, int(count), 100 * float(r), 100 * float(p), 100 * float(f))
        for name, count, r, p, f in zip(classes, counts, recall, precision, f1, strict=True)
    )


def _check(labels: NDArray[np.integer], log_probabilities: NDArray[np.floating], classes: Sequence[str]) -> None:
    if len(labels) == 0:
        raise DataError("there are no images to score: is the split empty?")
    expected = (len(labels), len(classes))
    if log_probabilities.shape != expected:
        raise DataError(
            f"{len(labels)} labels and {len(classes)} classes need answers of shape {expected}, "
            f"not {log_probabilities.shape}: are these the classes the network was trained on?"
        )
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        where = int(outside.argmax())
        raise DataError(
            f"image {where} has label {labels[where]}, but {len(classes)} classes end at {len(classes) - 1}"
        )
