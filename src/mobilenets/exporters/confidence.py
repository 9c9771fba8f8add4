"""Probabilities that mean what they say, and the one below which an answer is "unknown".

Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2) divides all logits by one number, which changes no
answer, only how sure it claims to be. An answer is given where it is likely enough to be right (Chow 1970, "On optimum
recognition error and reject tradeoff"): by default where it is likelier right than wrong, a bar that a weak network can
clear too, unlike a share of correct answers that only a strong one can reach. The validation images find temperature
and threshold, and the test images, which had no part in it, say what they are worth. Where there are no validation
images, one half of the test images, stratified over classes and seeded, does the one, and the other half the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mobilenets.artifact.description import Confidence
from mobilenets.data.splits import halves
from mobilenets.errors import DataError
from mobilenets.evaluation.predictions import correct_answers, expected_calibration_error

MIN_CONFIDENCE_ACCURACY = 0.5
"""How likely right an answer has to be to be given: likelier than wrong."""
KEPT = 0.99
"""Share of the right answers that are at least as sure as the threshold's lower bound.

Where a network may answer everything, this lets it still say "unknown" of images unlike all it knows.
"""
FEWEST_IMAGES = 100
"""To find on one half and to tell by the other; where other images tell, half as many are enough."""
FEWEST_ANSWERS = 20
"""Below this many answers, their share that is right is mostly luck."""
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class ConfidenceReport:
    """What calibrating brought, measured on images that had no part in it.

    Attributes:
        confidence: temperature and threshold, as they go into the artifact.
        ece_before: expected calibration error without them, in percent.
        ece_after: with the temperature.
        coverage: images that get an answer, in percent.
        answered_top1: answers given that are correct, in percent; None where none is given.
        unknown_top1: of the images left unknown, those whose first guess was correct, in percent; None where none is.
        images: how many images these are.
    """

    confidence: Confidence
    ece_before: float
    ece_after: float
    coverage: float
    answered_top1: float | None
    unknown_top1: float | None
    images: int


def calibrate(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    what: str,
    *,
    min_accuracy: float = MIN_CONFIDENCE_ACCURACY,
    seed: int = 0,
) -> ConfidenceReport | None:
    """Find temperature and threshold on one half of some images, and tell by the other; None for fewer than 100.

    Args:
        logits: the exported file's own answers, `[N, K]`.
        labels: the true classes, `[N]`.
        what: the images in words, e.g. `test images of cifar10`.
        min_accuracy: how likely correct an answer has to be to be given, from 0, which gives every answer, to below 1.
        seed: of the choice of halves.

    Raises:
        DataError: `min_accuracy` is out of range.
    """
    check_min_confidence_accuracy(min_accuracy)
    if len(labels) < FEWEST_IMAGES:
        return None
    first, second = halves(labels, seed)
    found = find_confidence(logits[first], labels[first], f"{len(first)} {what}", min_accuracy=min_accuracy)
    return (
        None if found is None else evaluate_confidence(found, logits[second], labels[second], f"{len(second)} others")
    )


def find_confidence(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    what: str,
    *,
    min_accuracy: float = MIN_CONFIDENCE_ACCURACY,
) -> Confidence | None:
    """Find temperature and threshold on images on which nothing else is reported; None where there are fewer than 50.

    The threshold is the probability at which answers to them cease to be correct as often as demanded, and no smaller
    than that of all but one in a hundred of the right answers.

    Args:
        logits: the exported file's own answers, `[N, K]`.
        labels: the true classes, `[N]`.
        what: the images in words, with their number.
        min_accuracy: how likely correct an answer has to be to be given, from 0, which gives every answer, to below 1.

    Raises:
        DataError: `min_accuracy` is out of range.
    """
    check_min_confidence_accuracy(min_accuracy)
    if len(labels) < FEWEST_IMAGES // 2:
        return None
    temperature = fit_temperature(logits, labels)
    threshold, kept = choose_threshold(*_top(logits / temperature, labels), min_accuracy)
    wanted = (
        "likelier right than wrong"
        if min_accuracy == MIN_CONFIDENCE_ACCURACY
        else f"at least {100 * min_accuracy:g} % likely right"
    )
    found = f"answers {wanted}" if kept else f"no answers were {wanted}, these came nearest"
    return Confidence(temperature, threshold, f"{found}; found on {what}")


def evaluate_confidence(
    confidence: Confidence, logits: NDArray[np.float32], labels: NDArray[np.int64], what: str
) -> ConfidenceReport:
    """Measure a temperature and a threshold on images by which they were not found.

    Args:
        confidence: as `find_confidence` found it; what is measured is added to its basis.
        logits: the file's answers, `[N, K]`.
        labels: the true classes, `[N]`.
        what: the images in words, with their number.
    """
    probability, correct = _top(logits / confidence.temperature, labels)
    given = probability >= confidence.threshold
    answered, unknown = _percent(correct[given]), _percent(correct[~given])
    coverage = 100 * float(given.mean())
    said = [f"{coverage:.1f} % are answered"]
    if answered is not None:
        said.append(f"{answered:.1f} % of them right")
    if unknown is not None:
        said.append(f"of those left unknown {unknown:.1f} % would have been")
    return ConfidenceReport(
        confidence=replace(confidence, basis=f"{confidence.basis}; on {what} {', '.join(said)}"),
        ece_before=expected_calibration_error(*_top(logits, labels)),
        ece_after=expected_calibration_error(probability, correct),
        coverage=coverage,
        answered_top1=answered,
        unknown_top1=unknown,
        images=len(labels),
    )


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood, between 0.05 and 20.

    One in n + 2 images counts as if it were any other class, after Platt (1999, section 2.2): a network without a
    mistake on these n images would otherwise seem entitled to be sure of everything. Answers with NaN or infinity are
    left out: no temperature makes them better.
    """
    answered = np.isfinite(logits).all(axis=1)
    logits, labels = logits[answered], labels[answered]
    count, classes = logits.shape
    if classes == 1 or count == 0:
        return 1.0
    doubt = 1 / (count + 2)
    targets = np.full((count, classes), doubt / (classes - 1))
    targets[np.arange(count), labels] = 1 - doubt
    wide = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(wide / np.exp(log_temperature), axis=1)).sum())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def choose_threshold(
    probability: NDArray[np.float64], correct: NDArray[np.bool_], min_accuracy: float
) -> tuple[float, bool]:
    """The probability to answer from, and whether answers from there on are worth giving.

    Where a wrong answer costs `min_accuracy` and a correct one is worth the rest of 1, giving those above the threshold
    pays most; each of them is then at least as likely correct as demanded. Measured so, it needs no bins.

    Args:
        probability: probability of each image's first guess, `[N]`.
        correct: whether it is correct, `[N]`.
        min_accuracy: how likely correct an answer has to be to be given.
    """
    if min_accuracy == 0:
        return 0.0, True
    order = np.argsort(-probability, kind="stable")
    sorted_probability = probability[order]
    worth = np.cumsum(correct[order] - min_accuracy)
    # Images of equal probability are answered all or none: only the last of them is a place to stop.
    place = np.append(sorted_probability[:-1] > sorted_probability[1:], True)
    place[: FEWEST_ANSWERS - 1] = False
    places = np.flatnonzero(place)
    if len(places) == 0:
        return float(sorted_probability[-1]), bool(worth[-1] >= 0)
    best = places[worth[places] == worth[places].max()][-1]
    kept = bool(worth[best] >= 0)
    if not kept:
        best = places[(worth[places] / (places + 1)).argmax()]
    lowest = float(np.quantile(probability[correct], 1 - KEPT)) if correct.any() else 0.0
    # Rounded down, so that the image it was taken from is answered still.
    threshold = np.floor(max(float(sorted_probability[best]), lowest) * 1e4) / 1e4
    return float(threshold), kept


def check_min_confidence_accuracy(min_accuracy: float) -> None:
    """Refuse what is no such share, before anything long is begun.

    Raises:
        DataError: it is not from 0 to below 1.
    """
    if not 0 <= min_accuracy < 1:
        raise DataError(
            "min_confidence_accuracy is how likely correct an answer has to be, from 0 to below 1, "
            f"not {min_accuracy:g}"
        )


def _percent(correct: NDArray[np.bool_]) -> float | None:
    return 100 * float(correct.mean()) if len(correct) else None


def _top(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of each first guess, 0 where NaN or infinity is answered, and whether it is right."""
    answered = np.isfinite(logits).all(axis=1, keepdims=True)
    probabilities = np.exp(log_softmax(np.where(answered, logits.astype(np.float64), 0.0), axis=1))
    probability: NDArray[np.float64] = np.where(answered, probabilities, 0.0).max(axis=1)
    return probability, correct_answers(labels, logits)
