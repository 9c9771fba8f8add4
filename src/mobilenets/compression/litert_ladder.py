"""The ways to quantize a network for LiteRT, from the plainest on: steps for `compression.ladder.climb`.

Weights have a scale for each output channel from the first rung on, and values a zero point, as LiteRT's int8 kernels
want them. What is left to try is how much of each range to keep, and which layers to leave out. 16-bit values between
the layers are no rung: LiteRT's fast kernels have none, so such a file takes many times as long as the float one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from mobilenets.compression.calibration import CalibrationImages
from mobilenets.compression.ladder import Built, Ladder, Step
from mobilenets.compression.litert_int8 import Int8Settings, quantized, require_quantizer
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.litert import FILE

if TYPE_CHECKING:
    from mobilenets.compression.litert_statistics import Statistics

PERCENTILE: Final = 99.99
PROBES: Final = 32
"""Images each layer's share in the error is measured on."""
MOST_FLOAT: Final = 4
"""At most one layer in that many stays float: beyond it, the float file is the better choice."""

Range = tuple[float, float]
Tune = Callable[[bool], bytes]
"""Fine-tunes the network, with symmetric activations or not, and gives its float file."""
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


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
    progress: Progress | None = None,
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
        progress: Progress | None = None,
    ) -> None:
        self._float_file, self._calibration = float_file, calibration
        self._tune, self._progress = tune, progress
        images = calibration.images
        self._probes = images[np.linspace(0, len(images) - 1, min(PROBES, len(images)), dtype=int)]
        self._file, self._statistics = cache(self._make_file), cache(self._collect)
        self._ranges, self._sensitivity = cache(self._compute_ranges), cache(self._measure_sensitivity)

    def build(self, settings: LitertSettings) -> Built:
        """Quantize in this way.

        Raises:
            QuantizationError: the quantizer refuses.
        """
        ranges = self._ranges(settings.ranges, settings.tuned)
        file = quantized(self._file(settings.tuned), ranges, settings.int8)
        return Built(Exported({FILE: file}, dynamic_batch=True), settings.int8.keep_float)

    def steps(self) -> Iterator[Step[LitertSettings]]:
        """What to try, from the plainest on."""
        yield Step("int8", "Weights by output channel, values from the least to the largest seen.", lambda best: best)
        yield Step(
            "percentile ranges",
            f"The outermost {100 - PERCENTILE:.2g} % of the values are clipped, so that outliers cost no precision.",
            lambda best: replace(best, ranges="percentile"),
        )
        yield Step(
            "least-error ranges",
            "Each range is clipped where rounding and clipping together do the least harm.",
            lambda best: replace(best, ranges="least error"),
        )
        yield Step(
            "clipped weights",
            "Weights are clipped likewise (OCTAV), channel by channel.",
            lambda best: replace(best, int8=replace(best.int8, weights="octav")),
        )
        count = 1
        while count <= max(1, len(self.layers) // MOST_FLOAT):
            yield Step(
                f"{count} {'layer' if count == 1 else 'layers'} in float",
                "The layers whose 8 bits disturb the logits most, found by leaving out each in turn, stay in float32.",
                self._with_float(count),
            )
            count *= 2
        if self._tune is not None:
            yield Step(
                "fine-tuned",
                "Trained on for a while with its weights and values rounded as int8 rounds them.",
                lambda best: LitertSettings(best.ranges, replace(best.int8, keep_float=()), tuned=True),
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with weights, by the names of their outputs, in execution order."""
        from mobilenets.compression.litert_statistics import layer_names

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
        from mobilenets.compression.litert_statistics import answer

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
        from mobilenets.compression.litert_statistics import collect_statistics

        return collect_statistics(self._file(tuned), self._calibration.batches())

    def _compute_ranges(self, kind: str, tuned: bool) -> dict[str, Range]:
        from mobilenets.compression.litert_statistics import extreme_ranges, least_error_ranges, percentile_ranges

        statistics = self._statistics(tuned)
        if kind == "extremes":
            return extreme_ranges(statistics)
        if kind == "percentile":
            return percentile_ranges(statistics, PERCENTILE)
        return least_error_ranges(statistics)
