from __future__ import annotations

import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("ai_edge_quantizer", reason="the extra litert is not installed")

from litert_files import answers, decoded, expected, google, lively, noise, photographs

from mobilenets import create_from_weights
from mobilenets.errors import DataError, MissingExtraError, QuantizationError
from mobilenets.exporters.litert.convert import FILE, to_litert
from mobilenets.install import install_line
from mobilenets.preprocessing import Preprocessing
from mobilenets.quantization.litert import Int8Settings, quantized
from mobilenets.quantization.litert_statistics import (
    collect_statistics,
    extreme_ranges,
    layer_names,
    least_error_ranges,
    percentile_ranges,
)

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(32)
IMAGES = noise(8)


@pytest.fixture(scope="module")
def float_file() -> bytes:
    return to_litert(lively("mobilenet_v3_small"), PREPROCESSING, for_int8=True).payload[FILE]


def int8(file: bytes, images: NDArray[np.uint8], **settings: Any) -> bytes:
    return quantized(file, extreme_ranges(collect_statistics(file, [images])), Int8Settings(**settings))


@pytest.fixture(scope="module")
def int8_file(float_file: bytes) -> bytes:
    return int8(float_file, IMAGES)


def correlation(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def test_everything_but_the_boundaries_is_int8(int8_file: bytes, tmp_path: Path) -> None:
    read = decoded(int8_file, tmp_path)
    kinds = Counter(operator.kind for operator in read.operators)
    assert (kinds["QUANTIZE"], kinds["DEQUANTIZE"], kinds["CAST"]) == (1, 1, 1)
    assert "HARD_SWISH" not in kinds
    (pixels,), (logits,) = read.inputs, read.outputs
    assert (read.tensors[pixels].dtype, read.tensors[logits].dtype) == ("UINT8", "FLOAT32")
    computed = [read.tensors[index].dtype for operator in read.operators for index in operator.outputs]
    assert Counter(computed) == {"INT8": len(computed) - 3, "FLOAT32": 3}  # cast, centred, logits


def test_weights_have_a_scale_for_each_channel(int8_file: bytes, tmp_path: Path) -> None:
    tensors = decoded(int8_file, tmp_path).tensors
    scales = {each.name: len(each.quantization.scales) for each in tensors if each.name.endswith("/weight")}
    assert scales["stem.conv/weight"] == 8
    assert min(scales.values()) > 1


def test_the_answers_stay_near(float_file: bytes, int8_file: bytes) -> None:
    logits = answers(float_file, IMAGES)
    assert correlation(answers(int8_file, IMAGES), logits) > 0.98
    assert len(int8_file) < 0.5 * len(float_file)


def test_any_number_of_images_gives_the_same_answers(int8_file: bytes) -> None:
    np.testing.assert_array_equal(answers(int8_file, IMAGES[:1]), answers(int8_file, IMAGES)[:1])


def test_layers_kept_in_float_are(float_file: bytes, tmp_path: Path) -> None:
    kept = ("blocks.1.expand.conv", "logits")
    read = decoded(int8(float_file, IMAGES, keep_float=kept), tmp_path)
    types = {tensor.name: tensor.dtype for tensor in read.tensors}
    assert (types["blocks.1.expand.conv/weight"], types["classifier/weight"]) == ("FLOAT32", "FLOAT32")
    assert types["blocks.1.project.conv/weight"] == "INT8"


def test_statistics_are_those_of_the_network(float_file: bytes) -> None:
    statistics = collect_statistics(float_file, [IMAGES[:3], IMAGES[3:]])
    logits = answers(float_file, IMAGES)
    assert statistics["logits"].low == pytest.approx(logits.min(), rel=1e-4)
    assert statistics["logits"].high == pytest.approx(logits.max(), rel=1e-4)
    np.testing.assert_allclose(np.sort(statistics["logits"].samples), np.sort(logits.ravel()), rtol=1e-3, atol=1e-3)
    assert statistics["images/centred"].low == pytest.approx(IMAGES.min() - 127.5)
    assert set(layer_names(float_file)) < set(statistics)


def test_narrower_ranges_lie_within_the_extremes(float_file: bytes) -> None:
    statistics = collect_statistics(float_file, [IMAGES])
    extremes = extreme_ranges(statistics)
    for ranges in (percentile_ranges(statistics, 99.0), least_error_ranges(statistics)):
        assert ranges.keys() == extremes.keys()
        for name, (low, high) in ranges.items():
            assert extremes[name][0] <= low <= high <= extremes[name][1]
        assert any(ranges[name] != extremes[name] for name in ranges)


def test_int8_statistics_are_in_real_numbers(float_file: bytes, int8_file: bytes) -> None:
    whole, coarse = (collect_statistics(file, [IMAGES]) for file in (float_file, int8_file))
    assert correlation(coarse["stem.conv"].samples, whole["stem.conv"].samples) > 0.99


@pytest.mark.parametrize("weights", ["min-max", "octav"])
def test_ways_to_scale_weights(float_file: bytes, weights: str) -> None:
    ranges = extreme_ranges(collect_statistics(float_file, [IMAGES]))
    file = quantized(float_file, ranges, Int8Settings(weights=weights))
    assert correlation(answers(file, IMAGES), answers(float_file, IMAGES)) > 0.97


def test_a_layer_that_is_not_there_is_refused(float_file: bytes) -> None:
    with pytest.raises(QuantizationError, match="no operator nothing"):
        int8(float_file, IMAGES[:1], keep_float=("nothing",))


def test_an_unknown_way_for_weights_is_refused(float_file: bytes) -> None:
    with pytest.raises(QuantizationError, match="choose min-max"):
        quantized(float_file, {}, Int8Settings(weights="guess"))


def test_no_images_is_an_error(float_file: bytes) -> None:
    with pytest.raises(DataError, match="at least one"):
        collect_statistics(float_file, [])


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch, float_file: bytes) -> None:
    monkeypatch.setattr(
        "mobilenets.quantization.litert.find_spec",
        lambda name: None if name == "ai_edge_quantizer" else find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=re.escape(f"ai_edge_quantizer: {install_line('export')}")):
        quantized(float_file, {}, Int8Settings())


def test_googles_v1_in_int8_still_names_photographs() -> None:
    path = google("mobilenet_v1_0.25_128_quant.tflite")
    model, _ = create_from_weights("mobilenet_v1", str(path), {"width_mult": 0.25, "image_size": 128})
    preprocessing = Preprocessing(128)
    images = photographs("imagenet-samples.zip", preprocessing, 48)
    logits = expected(model.eval(), preprocessing, images[24:])
    file = int8(to_litert(model, preprocessing, for_int8=True).payload[FILE], images[:24])
    actual = answers(file, images[24:])
    assert (actual.argmax(1) == logits.argmax(1)).mean() >= 0.7
    assert correlation(actual, logits) > 0.98
