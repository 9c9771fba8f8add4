"""The ways to quantize a network for LiteRT, from the plainest on: steps for `quantization.search.search_ladder`.

Weights have a scale for each output channel from the first rung on, and values a zero point, as LiteRT's int8 kernels
want them. What is left to try is how much of each range to keep, and which layers to leave out. 16-bit values between
the layers are no rung: LiteRT's fast kernels have none, so such a file takes many times as long as the float one.

A float file becomes one in 8 bits through AI Edge Quantizer with ranges of our own: weights int8 with a scale for each
output channel, values int8 with a scale and a zero point for each tensor. The input stays uint8 pictures, the output
float32 logits, and so does the one addition that centres the pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mobilenets.errors import MissingExtraError, QuantizationError, first_line
from mobilenets.exporters.litert.convert import FILE
from mobilenets.exporters.prepare import Exported
from mobilenets.install import install_line
from mobilenets.output_capture import capture_python_output
from mobilenets.progress import Update
from mobilenets.quantization.search import CalibrationImages, Ladder, LadderStep, QuantizedFile

if TYPE_CHECKING:
    from mobilenets.quantization.litert_statistics import Statistics


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
        with capture_python_output():
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


PERCENTILE: Final = 99.99
PROBES: Final = 32
"""Images each layer's share in the error is measured on."""
MOST_FLOAT: Final = 4
"""At most one layer in that many stays float: beyond it, the float file is the better choice."""

Tune = Callable[[bool], bytes]
"""Fine-tunes the network, with symmetric activations or not, and gives its float file."""


@dataclass(frozen=True)
class LitertSettings:
    """What a rung changes.

    Attributes:
        ranges: where they come from: `extremes`, `percentile` or `least error`.
        int8: the quantizer's settings.
        tuned: whether the network is the fine-tuned one.
    """

    ranges: str = "extremes"
    int8: Int8Settings = field(default_factory=Int8Settings)
    tuned: bool = False


def litert_ladder(
    float_exported: Exported,
    calibration: CalibrationImages,
    *,
    tune: Tune | None = None,
    progress: Update | None = None,
) -> Ladder[LitertSettings]:
    """The ladder of a network's float LiteRT file.

    Args:
        float_exported: by `to_litert`, best `for_int8`: quantized MobileNetV3 is then two to three times as fast.
        calibration: what to find ranges on.
        tune: fine-tunes the network for a last rung; None goes without. Its file is to be made like `float_exported`.
        progress: told of what takes long.

    Raises:
        MissingExtraError: the extra `export` is not installed.
    """
    require_quantizer()
    made = LitertLadder(float_exported.payload[FILE], calibration, tune, progress)
    return Ladder(LitertSettings(), made.steps(), made.build)


class LitertLadder:
    """Quantizes one network again and again; each of its float files is shown the images once.

    Args:
        float_file: float32, by `to_litert`.
        calibration: what to find ranges on.
        tune: see `litert_ladder`.
        progress: see `litert_ladder`.
    """

    def __init__(
        self,
        float_file: bytes,
        calibration: CalibrationImages,
        tune: Tune | None = None,
        progress: Update | None = None,
    ) -> None:
        self._float_file, self._calibration = float_file, calibration
        self._tune, self._progress = tune, progress
        images = calibration.images
        self._probes = images[np.linspace(0, len(images) - 1, min(PROBES, len(images)), dtype=int)]
        self._file, self._statistics = cache(self._make_file), cache(self._collect)
        self._ranges, self._sensitivity = cache(self._compute_ranges), cache(self._measure_sensitivity)

    def build(self, settings: LitertSettings) -> QuantizedFile:
        """Quantize in this way.

        Raises:
            QuantizationError: the quantizer refuses.
        """
        ranges = self._ranges(settings.ranges, settings.tuned)
        file = quantized(self._file(settings.tuned), ranges, settings.int8)
        return QuantizedFile(Exported({FILE: file}, dynamic_batch=True), settings.int8.keep_float)

    def steps(self) -> Iterator[LadderStep[LitertSettings]]:
        """What to try, from the plainest on."""
        yield LadderStep(
            "int8", "Weights by output channel, values from the least to the largest seen.", lambda best: best
        )
        yield LadderStep(
            "percentile ranges",
            f"The outermost {100 - PERCENTILE:.2g} % of the values are clipped, so that outliers cost no precision.",
            lambda best: replace(best, ranges="percentile"),
        )
        yield LadderStep(
            "least-error ranges",
            "Each range is clipped where rounding and clipping together do the least harm.",
            lambda best: replace(best, ranges="least error"),
        )
        yield LadderStep(
            "clipped weights",
            "Weights are clipped likewise (OCTAV), channel by channel.",
            lambda best: replace(best, int8=replace(best.int8, weights="octav")),
        )
        count = 1
        while count <= max(1, len(self.layers) // MOST_FLOAT):
            yield LadderStep(
                f"{count} {'layer' if count == 1 else 'layers'} in float",
                "The layers whose 8 bits disturb the logits most, found by leaving out each in turn, stay in float32.",
                self._with_float(count),
            )
            count *= 2
        if self._tune is not None:
            yield LadderStep(
                "fine-tuned",
                "Trained on for a while with its weights and values rounded as int8 rounds them.",
                lambda best: LitertSettings(best.ranges, replace(best.int8, keep_float=()), tuned=True),
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with weights, by the names of their outputs, in execution order."""
        from mobilenets.quantization.litert_statistics import layer_names

        return layer_names(self._float_file)

    def sensitivity(self, settings: LitertSettings) -> tuple[tuple[str, float], ...]:
        """Every layer and the mean squared error of the logits that is left when it alone stays float, least first."""
        return self._sensitivity(replace(settings, int8=replace(settings.int8, keep_float=())))

    def _with_float(self, count: int) -> Callable[[LitertSettings], LitertSettings]:
        def change(best: LitertSettings) -> LitertSettings:
            names = tuple(name for name, _ in self.sensitivity(best)[:count])
            return replace(best, int8=replace(best.int8, keep_float=names))

        return change

    def _measure_sensitivity(self, settings: LitertSettings) -> tuple[tuple[str, float], ...]:
        from mobilenets.quantization.litert_statistics import answer

        expected = answer(self._file(settings.tuned), self._probes)
        left: dict[str, float] = {}
        for number, name in enumerate(self.layers):
            if self._progress is not None:
                self._progress("measuring layers", number, len(self.layers))
            kept = replace(settings, int8=replace(settings.int8, keep_float=(name,)))
            (file,) = self.build(kept).exported.payload.values()
            left[name] = float(np.square(answer(file, self._probes) - expected).mean())
        return tuple(sorted(left.items(), key=lambda pair: pair[1]))

    def _make_file(self, tuned: bool) -> bytes:
        # LiteRT has zero points, so activations need not be symmetric.
        return self._tune(False) if tuned and self._tune is not None else self._float_file

    def _collect(self, tuned: bool) -> Statistics:
        from mobilenets.quantization.litert_statistics import collect_statistics

        return collect_statistics(self._file(tuned), self._calibration.batches())

    def _compute_ranges(self, kind: str, tuned: bool) -> dict[str, Range]:
        from mobilenets.quantization.litert_statistics import extreme_ranges, least_error_ranges, percentile_ranges

        statistics = self._statistics(tuned)
        if kind == "extremes":
            return extreme_ranges(statistics)
        if kind == "percentile":
            return percentile_ranges(statistics, PERCENTILE)
        return least_error_ranges(statistics)
