"""What the test images say once the choice is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilenets.deployment import measure
from mobilenets.deployment.measure import TestScores, score_test_images
from mobilenets.evaluation.evaluation_set import ArrayImages, EvaluationSet
from mobilenets.progress import Silent

if TYPE_CHECKING:
    from conftest import MakeWay


def read(way: MakeWay, scored: float, monkeypatch: pytest.MonkeyPatch) -> TestScores:
    kept, other = way("kept", 1.0, drop=0.2), way("other", 2.0)
    scores = {(kept.path, kept.backend, kept.precision): scored}
    artifact: Any = SimpleNamespace(description=SimpleNamespace(confidence=None))
    monkeypatch.setattr(measure, "read_artifact", lambda path: artifact)
    monkeypatch.setattr(measure, "score", lambda *asked: (scores, ("scoring other failed: no memory",)))
    pixels, labels = np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4, np.int64)
    images = EvaluationSet("4 test images of photos", ArrayImages(pixels), labels)

    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.eye(2, dtype=np.float32)[np.zeros(len(batch), np.int64)]

    return score_test_images((kept, other), kept, images, network, 1, 1.0, Silent())


def test_a_kept_file_that_loses_too_much_there_is_kept_and_warned_of(
    way: MakeWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = read(way, 75.0, monkeypatch)
    assert [one.test_top1 for one in reading.ways] == [75.0, None]
    assert (reading.test.data, reading.test.float_top1) == ("4 test images of photos", 100.0)
    assert reading.notes == (
        "on the 4 test images of photos kept loses 25.00 points, more than the 1 point allowed: the validation images "
        "showed a smaller drop; don't choose again by the test images",
        "scoring other failed: no memory",
    )


def test_a_kept_file_that_holds_is_no_news(way: MakeWay, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(way, 99.0, monkeypatch).notes == ("scoring other failed: no memory",)
