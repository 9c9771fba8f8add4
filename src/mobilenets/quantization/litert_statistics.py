"""What flows through a LiteRT file when it is shown real images, and the ranges to quantize with that follow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from mobilenets.errors import DataError
from mobilenets.machine import usable_cores
from mobilenets.output_capture import capture_stderr

Range = tuple[float, float]

SAMPLES_PER_IMAGE: Final = 256
"""Values of each tensor kept of each image: enough for percentiles of all images together."""
LAYERS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_LEVELS: Final = 255
_TINY: Final = 1e-30
_CLIPS: Final = tuple(number / 40 for number in range(12, 41))


@dataclass(frozen=True)
class TensorStatistics:
    """One computed tensor over all images.

    Attributes:
        low: its least value.
        high: its largest.
        samples: some of its values, evenly drawn.
    """

    low: float
    high: float
    samples: NDArray[np.float32]


Statistics = Mapping[str, TensorStatistics]
"""By the tensor's name in the file."""


def collect_statistics(file: bytes, calibration: Iterable[NDArray[np.uint8]]) -> dict[str, TensorStatistics]:
    """Show a file images and note what each computed tensor of real numbers holds.

    Integers of a quantized file are taken for the real numbers they stand for.

    Args:
        file: a LiteRT file of one uint8 input `[B, H, W, C]`.
        calibration: batches of images.

    Raises:
        DataError: there are no images.
    """
    interpreter = _Transparent(file)
    parts: dict[str, list[TensorStatistics]] = {name: [] for name in interpreter.names}
    images = 0
    for batch in calibration:
        for image in batch:
            images += 1
            for name, values in interpreter.run(image):
                parts[name].append(_statistics(values, images))
    if not images:
        raise DataError("int8 needs images to calibrate with: pass at least one")
    return {name: _joined(each) for name, each in parts.items() if each}


def extreme_ranges(statistics: Statistics) -> dict[str, Range]:
    """From the least to the largest value: nothing is clipped."""
    return {name: (tensor.low, tensor.high) for name, tensor in statistics.items()}


def percentile_ranges(statistics: Statistics, percentile: float) -> dict[str, Range]:
    """What that part of the values, in percent, lies within; what is outside is clipped, the rest gets finer steps."""
    outside = (100 - percentile) / 2

    def within(tensor: TensorStatistics) -> Range:
        low, high = np.percentile(tensor.samples, [outside, 100 - outside])
        return float(low), float(high)

    return {name: within(tensor) for name, tensor in statistics.items()}


def least_error_ranges(statistics: Statistics) -> dict[str, Range]:
    """The part of each range that rounds with the least squared error, clipping included."""
    return {name: _least_error(tensor) for name, tensor in statistics.items()}


def _least_error(tensor: TensorStatistics) -> Range:
    def error(clip: float) -> float:
        low, high = min(0.0, tensor.low * clip), max(0.0, tensor.high * clip)
        step = max(high - low, _TINY) / _LEVELS
        rounded = np.clip(np.round((tensor.samples - low) / step), 0, _LEVELS) * step + low
        return float(np.square(rounded - tensor.samples).mean())

    best = min(_CLIPS, key=error)
    return tensor.low * best, tensor.high * best


class _Transparent:
    """An interpreter whose every tensor can be read afterwards: no delegate, which would keep them to itself."""

    def __init__(self, file: bytes) -> None:
        with warnings.catch_warnings(), capture_stderr():
            # It warns of the memory this costs.
            warnings.simplefilter("ignore", UserWarning)
            self._interpreter = Interpreter(
                model_content=file,
                num_threads=usable_cores(),
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        written = {int(index) for step in self._interpreter._get_ops_details() for index in step["outputs"]}
        self._details = [
            detail
            for detail in self._interpreter.get_tensor_details()
            if detail["index"] in written and _read(detail) is not None
        ]
        self.names = [str(detail["name"]) for detail in self._details]

    def run(self, image: NDArray[np.uint8]) -> Iterable[tuple[str, NDArray[np.float32]]]:
        """Each tensor's name and real values for one image `[H, W, C]`."""
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        for detail in self._details:
            read = _read(detail)
            assert read is not None
            yield str(detail["name"]), read(self._interpreter.get_tensor(detail["index"]))


def _read(detail: Mapping[str, Any]) -> Callable[[NDArray[Any]], NDArray[np.float32]] | None:
    """How to read a tensor's real values; None for one that has none."""
    if detail["dtype"] == np.float32:
        return lambda values: np.asarray(values, np.float32)
    parameters = detail["quantization_parameters"]
    if detail["dtype"] in (np.int8, np.int16) and len(parameters["scales"]) == 1:
        scale, point = float(parameters["scales"][0]), int(parameters["zero_points"][0])
        return lambda values: np.asarray((values.astype(np.float32) - point) * scale, np.float32)
    return None


def _statistics(values: NDArray[np.float32], seed: int) -> TensorStatistics:
    flat = values.reshape(-1)
    if flat.size > SAMPLES_PER_IMAGE:
        # The same places for the same image, in whatever file: what changes is then the values alone.
        flat = flat[np.random.default_rng(seed).integers(0, flat.size, SAMPLES_PER_IMAGE)]
    return TensorStatistics(float(values.min()), float(values.max()), flat.copy())


def _joined(parts: Sequence[TensorStatistics]) -> TensorStatistics:
    return TensorStatistics(
        min(part.low for part in parts),
        max(part.high for part in parts),
        np.concatenate([part.samples for part in parts]),
    )


def answer(file: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits `[B, K]` of a file for images uint8 `[B, H, W, C]`, computed as on any device: with XNNPACK."""
    with capture_stderr():
        interpreter = Interpreter(model_content=file, num_threads=usable_cores())
        source = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(source, images.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(source, images)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), np.float32)


def layer_names(file: bytes) -> tuple[str, ...]:
    """The layers with weights, by the names of their outputs, in the order they run."""
    with capture_stderr():
        interpreter = Interpreter(
            model_content=file, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    names = {detail["index"]: str(detail["name"]) for detail in interpreter.get_tensor_details()}
    steps = interpreter._get_ops_details()
    return tuple(names[step["outputs"][0]] for step in steps if step["op_name"] in LAYERS)
