"""A float LiteRT file in 8 bits, through AI Edge Quantizer with ranges of our own.

Weights become int8, a scale for each output channel; values int8 (or int16) with a scale and a zero point for each
tensor. The input stays uint8 pictures, the output float32 logits, and so does the one addition that centres the pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import MissingExtraError, QuantizationError, first_line
from mobilenets.exporting.quiet import quiet

CENTRED: Final = "images/centred"
"""The file's own name for pixels with their mean taken off; float32 in every file."""
WEIGHT_METHODS: Final = {"min-max": "min_max_uniform_quantize", "least error": "MSE", "octav": "OCTAV"}
"""How a channel's weights find their scale: by their largest, or by the clipping with the least squared error."""
ACTIVATION_BITS: Final = (8, 16)

Range = tuple[float, float]


@dataclass(frozen=True)
class Int8Settings:
    """How to quantize.

    Attributes:
        keep_float: names of operators (of their output tensors) that stay in float32.
        per_channel: a scale for each output channel of the weights, else one for the tensor.
        activation_bits: 8, or 16 for values between the layers; weights have 8 either way.
        weights: how weights find their scale, one of `WEIGHT_METHODS`.
    """

    keep_float: tuple[str, ...] = ()
    per_channel: bool = True
    activation_bits: int = 8
    weights: str = "min-max"


def to_litert_int8(
    float_tflite: bytes,
    calibration: Iterable[NDArray[np.uint8]],
    *,
    keep_float: Sequence[str] = (),
    per_channel: bool = True,
    activation_bits: int = 8,
) -> bytes:
    """Quantize a float file that `to_litert` made, with ranges from the least to the largest value seen.

    Args:
        float_tflite: the file, float32.
        calibration: batches of training images, uint8 `[B, H, W, C]`, prepared as for evaluation.
        keep_float: operators that stay in float32, by name.
        per_channel: a scale for each output channel of the weights.
        activation_bits: 8 or 16.

    Raises:
        DataError: there are no images.
        QuantizationError: the quantizer refuses the file or the settings, or a name is none of the file's.
        MissingExtraError: the extra `export` is not installed.
    """
    require_quantizer()
    from mobilenets.compression.litert_statistics import collect_statistics, extreme_ranges

    ranges = extreme_ranges(collect_statistics(float_tflite, calibration))
    return quantized(float_tflite, ranges, Int8Settings(tuple(keep_float), per_channel, activation_bits))


def quantized(float_tflite: bytes, ranges: Mapping[str, Range], settings: Int8Settings) -> bytes:
    """Quantize a float file with the range of each of its computed tensors.

    Raises:
        QuantizationError: the quantizer refuses the file or the settings, or a name is none of the file's.
        MissingExtraError: the extra `export` is not installed.
    """
    require_quantizer()
    from ai_edge_quantizer.quantizer import Quantizer

    unknown = sorted(set(settings.keep_float) - set(ranges))
    if unknown:
        raise QuantizationError(
            f"the file has no operator {', '.join(unknown)} to keep in float: its names are layers'"
        )
    observed = {
        name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
        for name, (low, high) in ranges.items()
    }
    try:
        with quiet():
            quantizer = Quantizer(bytearray(float_tflite), _recipe(settings))
            result = quantizer.quantize(observed, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        raise QuantizationError(f"the file can't be quantized in this way: {first_line(error)}") from error
    return bytes(result.quantized_model)


def require_quantizer() -> None:
    """Raise MissingExtraError where the extra `export` is not installed: before hours of work, not after."""
    missing = [name for name in ("ai_edge_litert", "ai_edge_quantizer") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"int8 LiteRT files need {' and '.join(missing)}: pip install 'mobilenets[export]'")


def _recipe(settings: Int8Settings) -> list[dict[str, Any]]:
    """The quantizer's own description of what to do: later entries win."""
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
    from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager

    if settings.weights not in WEIGHT_METHODS:
        raise QuantizationError(f"there is no way {settings.weights!r} for weights: choose {', '.join(WEIGHT_METHODS)}")
    if settings.activation_bits not in ACTIVATION_BITS:
        raise QuantizationError(f"values have 8 or 16 bits, not {settings.activation_bits}")
    recipe = RecipeManager()
    granularity = QuantGranularity.CHANNELWISE if settings.per_channel else QuantGranularity.TENSORWISE
    layers = (TFLOperationName.CONV_2D, TFLOperationName.DEPTHWISE_CONV_2D, TFLOperationName.FULLY_CONNECTED)
    recipe.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, settings.activation_bits, 8)
    for layer in layers:
        algorithm = AlgorithmName(WEIGHT_METHODS[settings.weights])
        recipe.add_static_config(".*", layer, settings.activation_bits, 8, granularity, algorithm)
    for boundary in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for name in (CENTRED, *settings.keep_float):
        # The quantizer matches against names that end in a semicolon.
        recipe.add_quantization_config(
            f"^{re.escape(name)};$", TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    plan: list[dict[str, Any]] = recipe.get_quantization_recipe()
    return plan
