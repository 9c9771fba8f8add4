"""Scoring a predict function on labelled images.

A predict function takes images `[B, H, W, C]` uint8 and returns logits `[B, K]` float32. Nothing else is known here, no
PyTorch and no file format, so float, int8, ONNX and any runtime are scored by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from mobilenets.arrays import read_arrays
from mobilenets.errors import DataError, ModelError, RunError
from mobilenets.evaluation.flip_test import flip_averaged
from mobilenets.evaluation.metrics import NO_CLASS, compute_metrics, correct_answers, predicted_classes
from mobilenets.evaluation.results import Metrics
from mobilenets.evaluation.wrong_answers import WrongAnswer
from mobilenets.files import write_atomically

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Batch = tuple[NDArray[np.uint8], ArrayLike]


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
        """Which images were called rightly, `[N]`."""
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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a predict function, the answers they were computed from, and the wrong ones where images have names."""

    metrics: Metrics
    predictions: Predictions
    mistakes: tuple[WrongAnswer, ...] = ()


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    classes: Sequence[str],
    progress: Callable[[int], None] | None = None,
    *,
    flip_test: bool = False,
    names: Sequence[str] | None = None,
) -> Evaluation:
    """Let `predict` answer every batch and score the answers.

    Args:
        predict: images `[B, H, W, C]` uint8 to logits `[B, K]`.
        batches: pairs of images and their B true class indices; batches may differ in size.
        classes: the K class names in output order.
        progress: called after each batch with the number of images done so far.
        flip_test: answer each image together with its mirror image; the scores then say so.
        names: of all images in order, to list in `mistakes` those answered wrongly, the most confident answer first;
            `mobilenets.evaluation.wrong_answers.write_wrong_answers` writes them to a CSV or JSON file.

    Raises:
        ModelError: logits of another shape than `[B, K]`, or infinite or not a number.
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
