"""Scoring a predict function on labelled images: accuracy, loss, figures of each class, confusion, calibration.

A predict function takes images `[B, H, W, C]` uint8 and returns logits `[B, K]` float32. Nothing else is known here, no
PyTorch and no file format, so float, int8, ONNX and any runtime are scored by the same code.

An answer that holds NaN or infinity names no class, and is wrong wherever answers are counted: `argmax` would take the
first NaN for the largest number, and a damaged file that answers nothing but NaN would be correct on the first class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from mobilenets.errors import DataError, ModelError, RunError
from mobilenets.evaluation.results import ClassScore, Metrics
from mobilenets.evaluation.wrong_answers import WrongAnswer
from mobilenets.files import write_atomically
from mobilenets.limits import read_arrays
from mobilenets.result import Result

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A predict function: images `[B, H, W, C]` uint8 -> logits `[B, K]` float32."""
Batch = tuple[NDArray[np.uint8], ArrayLike]

CALIBRATION_BINS = 15
NO_CLASS = -1
"""What is predicted where an answer holds NaN or infinity."""


def flip_averaged(predict: Predict) -> Predict:
    """Make a predict function that gives the mean logits of each image and of its mirror image, left to right.

    It takes twice the time, and is wrong for digits, letters or anything else that has a handedness.
    """

    def averaged(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        mean: NDArray[np.float32] = (np.asarray(predict(images)) + np.asarray(predict(mirrored))) * np.float32(0.5)
        return mean

    return averaged


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
    from sklearn.metrics import confusion_matrix  # takes a second to load, and few processes score

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
    from sklearn.metrics import precision_recall_fscore_support

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


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was answered, image by image: true labels `[N]` int64 and class probabilities `[N, K]` float32."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The class called for each image, `[N]`; `NO_CLASS` where its probabilities hold NaN or infinity."""
        return predicted_classes(self.probabilities)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability given to the class called, `[N]`, 0 to 1; 0 where there is none."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return np.where(self.predicted == NO_CLASS, np.float32(0), confidence)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images were classified correctly, `[N]`."""
        return correct_answers(self.labels, self.probabilities)

    def wrong_answers(self, names: Sequence[str], classes: Sequence[str]) -> tuple[WrongAnswer, ...]:
        """All wrong answers, the most confident first.

        Args:
            names: of the N images.
            classes: the K class names in output order.

        Raises:
            DataError: not as many names as images.
        """
        if len(names) != len(self.labels):
            raise DataError(f"{len(names)} names don't belong to {len(self.labels)} images")
        answered, confidence = self.predicted, self.confidence
        wrong = np.flatnonzero(~self.correct)
        return tuple(
            WrongAnswer(names[place], classes[self.labels[place]], classes[answered[place]], float(confidence[place]))
            for place in wrong[np.argsort(-confidence[wrong], kind="stable")]
        )

    def save(self, path: Path) -> None:
        """Write both arrays to `path` (.npz), whole or not at all."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez_compressed(file, labels=self.labels, probabilities=self.probabilities)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote; never unpickles.

        Raises:
            RunError: the file is missing, damaged, or holds something else.
        """
        try:
            labels, probabilities = read_arrays(path, "labels", "probabilities").values()
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing: evaluate the run again to write it") from error
        except OSError as error:
            raise RunError(f"{path} can't be read ({error.strerror or error}): evaluate the run again") from error
        except ValueError as error:
            raise RunError(f"{path} is no predictions file ({error}): delete it and evaluate the run again") from error
        whole = labels.dtype == np.int64 and probabilities.dtype == np.float32
        if not whole or labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
            raise RunError(f"{path} does not hold labels [N] and probabilities [N, K]: delete it and evaluate again")
        return cls(labels, probabilities)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """What a predict function scored.

    Attributes:
        metrics: the scores.
        predictions: the answers they were computed from.
        mistakes: the images misclassified, the most confident answer first, where images have names.
        notes: what the user should know of the images, a sentence each.
    """

    metrics: Metrics
    predictions: Predictions
    mistakes: tuple[WrongAnswer, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The scores."""
        return asdict(self.metrics)

    def _headline(self) -> str:
        scores = self.metrics
        return f"top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} % of {scores.count:,} images"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [asdict(score) for score in self.metrics.classes]


def evaluate_predictions(
    predict: Predict,
    batches: Iterable[Batch],
    classes: Sequence[str],
    *,
    flip_test: bool = False,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Let `predict` answer every batch and score the answers.

    Args:
        predict: images `[B, H, W, C]` uint8 to logits `[B, K]`.
        batches: pairs of images and their B true class indices; batches may differ in size.
        classes: the K class names in output order.
        flip_test: average the answers to each image and its mirror image; the scores then say so.
        names: of all images in order, to list in `mistakes` those misclassified, the most confident answer first;
            `mobilenets.evaluation.wrong_answers.write_wrong_answers` writes them to a CSV or JSON file.
        progress: called after each batch with the number of images done so far.

    Raises:
        ModelError: logits of another shape than `[B, K]`, or infinite or NaN.
        DataError: no images, or labels that do not fit the images or the classes.
    """
    all_labels: list[NDArray[np.int64]] = []
    all_logs: list[NDArray[np.float32]] = []
    done = 0
    if flip_test:
        predict = flip_averaged(predict)
    for images, batch_labels in batches:
        labels = _checked_labels(batch_labels, len(images), done)
        logits = _checked_logits(np.asarray(predict(images)), (len(images), len(classes)), done)
        # float64 inside: the sum of K exponentials would otherwise cost the loss its last digits.
        all_logs.append(log_softmax(logits.astype(np.float64), axis=1).astype(np.float32))
        all_labels.append(labels)
        done += len(images)
        if progress is not None:
            progress(done)
    if done == 0:
        raise DataError("there are no images to evaluate: is the split empty?")
    labels, logs = np.concatenate(all_labels), np.concatenate(all_logs)
    metrics = replace(compute_metrics(labels, logs, classes), flip_test=flip_test)
    predictions = Predictions(labels, np.exp(logs))
    return Evaluation(metrics, predictions, () if names is None else predictions.wrong_answers(names, classes))


def _checked_labels(labels: ArrayLike, count: int, first: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.shape != (count,):
        raise DataError(f"the batch from image {first} on has {count} images but labels of shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"the batch from image {first} on has {array.dtype} labels; class indices are integers")
    return array.astype(np.int64)


def _checked_logits(logits: NDArray[np.float32], shape: tuple[int, int], first: int) -> NDArray[np.float32]:
    if logits.shape != shape:
        raise ModelError(
            f"the network answered {shape[0]} images with logits of shape {logits.shape} instead of {shape}: "
            f"it was not made for these {shape[1]} classes"
        )
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ModelError(
            f"the network's answer to image {first + int(finite.argmin())} is infinite or not a number: "
            "its weights are damaged or its training diverged; train it again with a lower learning rate"
        )
    return logits
