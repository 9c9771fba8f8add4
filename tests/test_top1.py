"""One top-1 for all: whoever counts right answers counts one with NaN or infinity as wrong.

The first class is the true one of every image, which is the one `argmax` names in a row of NaN.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from described import CLASSES, describe, write_onnx
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.deployment import measure
from mobilenets.errors import ArtifactError, ModelError
from mobilenets.evaluation.evaluation_set import ArrayImages, EvaluationSet
from mobilenets.evaluation.predictions import Predictions, evaluate_predictions
from mobilenets.evaluation.significance import paired_test
from mobilenets.exporters.confidence import choose_threshold, evaluate_confidence, find_confidence, fit_temperature
from mobilenets.exporters.verify import compare_answers
from mobilenets.progress import Silent
from mobilenets.quantization.results import Top1
from mobilenets.quantization.search import score
from mobilenets.runtime.classifier import Classifier
from mobilenets.training.accumulation import count_correct
from mobilenets.workflows.compare import confident_mistakes

IMAGES = 60
LABELS = np.zeros(IMAGES, np.int64)


def answers(value: float, *, whole_row: bool = True) -> NDArray[np.float32]:
    """Logits [60, 3], right but for the first half, of which every row holds `value`."""
    logits = np.tile(np.array([3.0, 1.0, 0.0], np.float32), (IMAGES, 1))
    logits[: IMAGES // 2, slice(None) if whole_row else 2] = value
    return logits


@pytest.fixture(
    params=[(np.nan, True), (np.nan, False), (np.inf, True), (np.inf, False), (-np.inf, True), (-np.inf, False)]
)
def half(request: pytest.FixtureRequest) -> NDArray[np.float32]:
    value, whole_row = request.param
    return answers(value, whole_row=whole_row)


def images(split: str = "test") -> EvaluationSet:
    pixels = np.zeros((IMAGES, 1, 1, 3), np.uint8)
    return EvaluationSet("60 synthetic images", ArrayImages(pixels, LABELS), LABELS, split)


def test_export_and_deploy(half: NDArray[np.float32]) -> None:
    assert images().top1(half) == 50
    assert images().top1(half, np.arange(IMAGES // 2, IMAGES)) == 100


def test_what_deploy_ranks_by(half: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Any = SimpleNamespace(predict=lambda batch: half)
    monkeypatch.setattr(measure, "open_backend", lambda *args, **settings: asked)
    monkeypatch.setattr(measure, "choices", lambda artifact: [SimpleNamespace(backend="a", precision="fp32")])
    artifact = Artifact(Path("broken.onnx"), describe())
    found, lost = measure.score([artifact], images(), 1, Silent())
    assert (list(found.values()), lost) == ([50.0], ())


def test_quantize(half: NDArray[np.float32]) -> None:
    assert score(images("validation"), half) == Top1(50, None, 50)


def test_stored_predictions_and_the_tests_between_networks(half: NDArray[np.float32]) -> None:
    stored = Predictions(LABELS, half)
    assert stored.correct.tolist() == [False] * 30 + [True] * 30
    assert stored.predicted[0] == -1
    assert stored.confidence[0] == 0
    broken, sound = stored.correct[None], Predictions(LABELS, answers(0.5, whole_row=False)).correct[None]
    tested = paired_test("broken", "sound", broken, sound)
    assert tested.difference == -50
    assert tested.differs  # McNemar: 30 images against none


def test_a_mistake_without_a_class_has_no_name(half: NDArray[np.float32]) -> None:
    class Images:
        names = tuple(f"image {number}" for number in range(IMAGES))

        def batch(self, positions: list[int]) -> NDArray[np.uint8]:
            return np.zeros((len(positions), 2, 2, 3), np.uint8)

    found = confident_mistakes(Predictions(LABELS, half), Images(), CLASSES)  # type: ignore[arg-type]
    assert {(one.predicted, one.confidence) for one in found} == {("no class", 0.0)}


def test_calibration(half: NDArray[np.float32]) -> None:
    assert fit_temperature(half, LABELS) == fit_temperature(half[30:], LABELS[30:])
    assert fit_temperature(half[:30], LABELS[:30]) == 1.0
    found = find_confidence(half, LABELS, "60 images")
    assert found is not None
    assert 0 < found.threshold <= 1
    told = evaluate_confidence(found, half, LABELS, "60 images")
    # Answers that are none are left unknown, and none of them would have been right.
    assert (told.coverage, told.answered_top1, told.unknown_top1) == (50, 100, 0)
    assert np.isfinite([told.ece_before, told.ece_after]).all()
    assert choose_threshold(np.array([0.0, 0.9] * 30), np.array([False, True] * 30), 0.5)[1]


def test_agreement_of_a_file_with_its_network(half: NDArray[np.float32]) -> None:
    parity = compare_answers(answers(0.0), half)
    assert parity.top1_agreement == 50
    assert not parity.holds


def test_training(half: NDArray[np.float32]) -> None:
    assert count_correct(torch.from_numpy(half), torch.from_numpy(LABELS)) == 30


def test_evaluate_names_the_first_such_image(half: NDArray[np.float32]) -> None:
    images = np.zeros((IMAGES, 1, 1, 3), np.uint8)
    with pytest.raises(ModelError, match="answer to image 0 is infinite or not a number"):
        evaluate_predictions(lambda _: half, [(images, LABELS)], CLASSES)


def test_predict_refuses_them(half: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(write_onnx(tmp_path / "colours.onnx").path)
    broken: Any = SimpleNamespace(predict=lambda images: half[: len(images)])
    monkeypatch.setattr(classifier, "backend", broken)
    with pytest.raises(ArtifactError, match="NaN or infinity"):
        classifier.answer(np.zeros((1, 8, 8, 3), np.uint8), ["picture"])
