from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="the extra litert is not installed")

from litert_files import answers, lively, noise

from mobilenets.exporters.litert.convert import FILE, to_litert
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.litert import LitertLadder, LitertSettings, litert_ladder
from mobilenets.quantization.results import CalibrationSummary, Top1
from mobilenets.quantization.search import CalibrationImages, QuantizedFile, search_ladder

pytestmark = pytest.mark.slow

IMAGES = noise(6)
CALIBRATION = CalibrationImages(IMAGES, np.zeros(6, np.int64), CalibrationSummary(6, 1, 0))
PERFECT = Top1(100.0, 100.0, 100.0)
FLOAT = to_litert(lively("mobilenet_v1"), Preprocessing(32), for_int8=True)
START = LitertSettings()


@pytest.fixture(scope="module")
def made() -> LitertLadder:
    return LitertLadder(FLOAT.payload[FILE], CALIBRATION)


def logits(built: QuantizedFile) -> np.ndarray:
    (file,) = built.exported.payload.values()
    return answers(file, IMAGES)


def left_error(built: QuantizedFile) -> float:
    return float(np.square(logits(built) - answers(FLOAT.payload[FILE], IMAGES)).mean())


def test_the_first_rung_is_taken_when_it_is_good_enough() -> None:
    climbed = search_ladder(
        litert_ladder(FLOAT, CALIBRATION), lambda built: Top1(99.5, 99.5, 99.5), PERFECT, max_drop=1.0
    )
    assert [rung.name for rung in climbed.rungs] == ["int8"]
    assert climbed.chosen is not None
    assert climbed.chosen.file_bytes == climbed.rungs[0].file_bytes > 0


def test_every_rung_is_tried_before_it_refuses(made: LitertLadder) -> None:
    told: list[tuple[str, int, int]] = []
    ladder = litert_ladder(FLOAT, CALIBRATION, progress=lambda *news: told.append(news))
    climbed = search_ladder(ladder, lambda built: Top1(10.0, 0, 0), PERFECT, max_drop=1.0)
    assert climbed.chosen is None
    assert [rung.name for rung in climbed.rungs] == [step.name for step in made.steps()]
    assert [len(rung.float_layers) for rung in climbed.rungs] == [0, 0, 0, 0, 1, 2, 4]
    assert {count for _, _, count in told} == {len(made.layers)}


def test_the_most_sensitive_layers_are_those_whose_floats_help_most(made: LitertLadder) -> None:
    ranked = made.sensitivity(START)
    assert {name for name, _ in ranked} == set(made.layers)
    assert [error for _, error in ranked] == sorted(error for _, error in ranked)
    *_, last = made.steps()
    assert left_error(made.build(last.change(START))) < left_error(made.build(START))


def test_the_last_rung_quantizes_what_fine_tuning_made() -> None:
    other = to_litert(lively("mobilenet_v1", seed=1), Preprocessing(32), for_int8=True).payload[FILE]
    asked: list[bool] = []

    def tune(symmetric: bool) -> bytes:
        asked.append(symmetric)
        return other

    made = LitertLadder(FLOAT.payload[FILE], CALIBRATION, tune)
    *_, last = made.steps()
    assert last.name == "fine-tuned"
    assert not asked  # the costly step is not taken before it is its turn
    tuned = logits(made.build(last.change(START)))
    assert asked == [False]
    assert np.corrcoef(tuned.ravel(), answers(other, IMAGES).ravel())[0, 1] > 0.95
