"""One evaluation set for everything that is scored: its halves, its top-1, and test images under seal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.errors import DataError, ModelError, RunError
from mobilenets.evaluation.evaluation_set import (
    LEDGER,
    ArrayImages,
    EvaluationSet,
    SealedTestSet,
    readings,
    record_for,
    record_reading,
    selecting_images,
)
from mobilenets.evaluation.images import evaluation_set, load_evaluation_data, selection_and_test
from mobilenets.evaluation.selection import chance_level
from mobilenets.image_record import ImageRecord
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.quantization.search import score

pytestmark = pytest.mark.slow

UPDATE = Silent().update


@dataclass(frozen=True)
class Network:
    """What a saved network tells of itself."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(image_size=8))
    provenance: dict[str, str] = field(default_factory=dict)
    images: ImageRecord | None = None


@pytest.fixture(scope="module")
def network(digits: Dataset) -> Network:
    return Network(digits.classes)


@pytest.fixture(scope="module")
def images(network: Network, digits: Dataset) -> EvaluationSet:
    return evaluation_set(network, digits, "test", progress=UPDATE)


def truth(images: EvaluationSet) -> NDArray[np.float32]:
    return np.eye(10, dtype=np.float32)[images.truth]


def test_halves_are_disjoint_stratified_and_whole(images: EvaluationSet) -> None:
    both = np.concatenate([images.selection, images.report])
    assert sorted(both.tolist()) == list(range(len(images)))
    first, second = (np.bincount(images.truth[half], minlength=10) for half in (images.selection, images.report))
    assert np.abs(first - second).max() <= 1


def test_accuracy_is_that_of_each_half(images: EvaluationSet) -> None:
    logits = truth(images)
    logits[images.report] = np.roll(logits[images.report], 1, axis=1)  # all wrong there
    top1 = score(images, logits)
    assert (top1.selection, top1.report) == (100, 0)
    assert top1.whole == pytest.approx(100 * len(images.selection) / len(images))


def test_all_validation_images_select(images: EvaluationSet) -> None:
    images = replace(images, split="validation")
    assert len(images.selection) == len(images)
    top1 = score(images, truth(images))
    assert (top1.selection, top1.report, top1.whole) == (100, None, 100)
    assert top1.drop_from(score(images, truth(images))).report is None
    selection, report = selecting_images(images.truth, validated=True, seed=3)
    assert (len(selection), len(report)) == (len(images), 0)


def test_answers_with_nan_are_wrong(images: EvaluationSet) -> None:
    logits = truth(images)
    logits[:, :] = np.nan
    assert images.top1(logits) == 0  # argmax of them is 0, which would be right for the first class


def test_logits_come_in_the_images_order(images: EvaluationSet, network: Network, digits: Dataset) -> None:
    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(pixels.reshape(len(pixels), -1).sum(axis=1, dtype=np.float32)[:, None], (1, 10))

    told: list[tuple[str, int, int]] = []
    sums = images.predict(predict, "scoring", lambda *update: told.append(update))[:, 0]
    expected = [network.preprocessing.arrange(source.open()).sum() for source in digits.test.sources[:50]]
    assert sums[:50].tolist() == expected
    assert told[-1] == ("scoring", len(images), len(images))


def test_fewer_images_are_drawn_with_each_class_and_by_no_seed(network: Network, digits: Dataset) -> None:
    few = evaluation_set(network, digits, "test", max_images=40, progress=UPDATE)
    assert np.bincount(few.truth).tolist() == [4] * 10
    assert chance_level(few.truth) == 10.0
    other = evaluation_set(network, digits, "test", max_images=40, seed=7, progress=UPDATE)
    assert other.names == few.names
    assert other.selection.tolist() != few.selection.tolist()


def test_what_nothing_can_be_scored_on_is_refused(images: EvaluationSet, network: Network, digits: Dataset) -> None:
    with pytest.raises(DataError, match="max_images must be at least 2, not 1"):
        evaluation_set(network, digits, "test", max_images=1, least=2, progress=UPDATE)
    one, none = (replace(digits, test=digits.test.take(np.array(chosen, dtype=np.int64))) for chosen in ([0], []))
    with pytest.raises(DataError, match="1 image"):
        evaluation_set(network, one, "test", least=2, progress=UPDATE)
    with pytest.raises(DataError, match="no test images"):
        evaluation_set(network, none, "test", progress=UPDATE)
    with pytest.raises(DataError, match="no validation images"):
        evaluation_set(network, digits, "validation", progress=UPDATE)
    with pytest.raises(ModelError, match=r"logits \[64, 3\]"):
        images.predict(lambda pixels: np.zeros((len(pixels), 3), np.float32), "scoring", UPDATE)


def test_synthetic_images_have_no_accuracy() -> None:
    made = EvaluationSet("2 synthetic images", ArrayImages(np.zeros((2, 4, 4, 3), np.uint8)), None)
    logits = made.predict(lambda pixels: np.ones((len(pixels), 5), np.float32), "scoring", UPDATE)
    assert logits.shape == (2, 5)
    with pytest.raises(DataError, match="have no labels"):
        made.top1(logits)


def test_the_test_images_are_recorded_when_they_are_opened(network: Network, digits: Dataset, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).touch()
    validation = replace(digits, validation=digits.train.take(np.arange(20)))
    asked: dict[str, Any] = {"max_images": None, "skip_bad": False, "progress": UPDATE}
    selecting, open_test = selection_and_test(network, validation, tmp_path, "export", **asked)
    assert (selecting.split, len(selecting), readings(tmp_path)) == ("validation", 20, ())
    assert open_test is not None
    assert (open_test().split, [one.command for one in readings(tmp_path)]) == ("test", ["export"])
    # Without validation images the test images select, which is a reading of them at once.
    selecting, open_test = selection_and_test(network, digits, tmp_path, "deploy", **asked)
    assert (selecting.split, open_test) == ("test", None)
    assert [one.command for one in readings(tmp_path)] == ["export", "deploy"]


def test_a_seal_is_kept_until_something_has_happened(images: EvaluationSet, tmp_path: Path) -> None:
    sealed = SealedTestSet(images)
    assert (len(sealed), sealed.skipped) == (len(images), ())
    sealed.keep_until("a network is chosen")
    with pytest.raises(RunError, match="sealed until a network is chosen"):
        sealed.open(None, "compare")
    with pytest.raises(RunError, match="sealed until a network is chosen"):
        sealed.seen()
    sealed.keep_until(None)
    assert sealed.open(None, "compare") is images
    with pytest.raises(RunError, match="sealed until training has ended"):
        sealed.open(tmp_path, "train")
    assert readings(tmp_path) == ()


def test_without_validation_images_a_note_says_that_the_test_images_select(network: Network) -> None:
    loaded = load_evaluation_data(network, load_dataset("digits"))
    assert loaded.validation is None
    assert "test images decide, not validation images" in loaded.notes[-1]


def test_readings_are_kept_in_order_and_the_earlier_ones_are_told(tmp_path: Path) -> None:
    assert readings(tmp_path) == ()
    assert record_reading(tmp_path, "train", 360, "d") == ()
    before = record_reading(tmp_path, "evaluate", 360, "d", repeats=True)
    assert [(one.command, one.images, one.digest, one.repeats) for one in before] == [("train", 360, "d", False)]
    assert [one.command for one in readings(tmp_path)] == ["train", "evaluate"]
    assert all(datetime.fromisoformat(one.at).tzinfo is not None for one in readings(tmp_path))


def test_other_images_are_other_readings(tmp_path: Path) -> None:
    record_reading(tmp_path, "evaluate", 10, "others")
    assert record_reading(tmp_path, "train", 360, "d") == ()
    assert len(readings(tmp_path)) == 2


def test_a_line_torn_by_a_kill_hides_no_other(tmp_path: Path) -> None:
    record_reading(tmp_path, "train", 360, "d")
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + path.read_text()[:30])
    assert [one.command for one in readings(tmp_path)] == ["train"]
    assert len(record_reading(tmp_path, "evaluate", 360, "d")) == 1
    assert [one.command for one in readings(tmp_path)] == ["train", "evaluate"]


@pytest.mark.parametrize("line", ["{}", "nothing", '{"at": 3, "command": "train", "images": 1}'])
def test_a_damaged_line_is_one_clear_error(tmp_path: Path, line: str) -> None:
    record_reading(tmp_path, "train", 360, "d")
    (tmp_path / LEDGER).write_text(f"{line}\n{(tmp_path / LEDGER).read_text()}")
    with pytest.raises(RunError, match=r"test_reads\.jsonl, line 1 is damaged"):
        readings(tmp_path)


def test_what_can_not_be_recorded_is_not_read(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(RunError, match=r"test_reads\.jsonl"):
        record_reading(tmp_path, "train", 360, "d")
    with pytest.raises(RunError, match="would go unrecorded"):
        record_reading(tmp_path / "missing", "train", 360, "d")


def test_only_run_folders_have_a_ledger(tmp_path: Path) -> None:
    for other in (tmp_path, "imagenet", object()):
        record_for(other, "export", 360, "d")
    assert readings(tmp_path) == ()
    (tmp_path / "model.json").touch()
    record_for(str(tmp_path), "export", 360, "d")
    assert [one.command for one in readings(tmp_path)] == ["export"]
