"""A float LiteRT file in 8 bits, through AI Edge Quantizer with ranges of our own.

Weights become int8, a scale for each output channel; values int8 with a scale and a zero point for each tensor.
The input stays uint8 pictures, the output float32 logits, and so does the one addition that centres the pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from mobilenets.errors import MissingExtraError, QuantizationError, first_line
from mobilenets.exporting.quiet import quiet
from mobilenets.install import install_line

CENTRED: Final = "images/centred"
"""The file's own name for pixels with their mean taken off; float32 in every file."""
WEIGHT_METHODS: Final = {"min-max": "min_max_uniform_quantize", "octav": "OCTAV"}
"""How a channel's weights find their scale: by their largest, or by OCTAV's clipping with the least squared error."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Int8Settings:
    """How to quantize.

    Attributes:
        keep_float: names of operators (of their output tensors) that stay in float32.
        weights: how weights find their scale, one of `WEIGHT_METHODS`.
    """

    keep_float: tuple[str, ...] = ()
    weights: str = "min-max"


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
        raise MissingExtraError(f"int8 LiteRT files need {' and '.join(missing)}: {install_line('export')}")


def _recipe(settings: Int8Settings) -> list[dict[str, Any]]:
    """The quantizer's own description of what to do: later entries win."""
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
    from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager

    if settings.weights not in WEIGHT_METHODS:
        raise QuantizationError(f"there is no way {settings.weights!r} for weights: choose {', '.join(WEIGHT_METHODS)}")
    recipe = RecipeManager()
    algorithm = AlgorithmName(WEIGHT_METHODS[settings.weights])
    layers = (TFLOperationName.CONV_2D, TFLOperationName.DEPTHWISE_CONV_2D, TFLOperationName.FULLY_CONNECTED)
    recipe.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    for layer in layers:
        recipe.add_static_config(".*", layer, 8, 8, QuantGranularity.CHANNELWISE, algorithm)
    for boundary in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for name in (CENTRED, *settings.keep_float):
        # The quantizer matches against names that end in a semicolon.
        recipe.add_quantization_config(
            f"^{re.escape(name)};$", TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    plan: list[dict[str, Any]] = recipe.get_quantization_recipe()
    return plan
