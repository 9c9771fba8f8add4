"""The rungs for ONNX files, from what costs nothing when the file runs to what costs speed, then training.

1. plain: symmetric 8 bits, a scale a filter, a scale an activation tensor, from the smallest and largest value seen;
2. bias correction, fast, then accurate (Nagel et al. 2019, arXiv 1906.04721, section 4.2);
3. ranges without the outliers: mean of the images' extremes, then quantiles (Wu et al. 2020, arXiv 2004.09602);
4. asymmetric activations, for h-swish;
5. no rounding before h-swish: speed in ONNX Runtime for accuracy (`compression.fusing`);
6. a scale for each channel of depthwise inputs, which only OpenVINO computes in 8 bits;
7. the most sensitive layers in float, 1, 2, 4, ... up to a quarter of them (`compression.sensitivity`);
8. quantization-aware fine-tuning (`compression.finetune`), and quantization again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import QuantizationError
from mobilenets.exporters.onnx import MODEL
from mobilenets.machine import usable_cores
from mobilenets.quantization.images import CalibrationImages
from mobilenets.quantization.nncf import PtqSettings, quantize_file
from mobilenets.quantization.qdq import graft, layer_nodes
from mobilenets.quantization.search import Built, Ladder, Step

if TYPE_CHECKING:
    from onnx import ModelProto


# Which layers suffer most from 8 bits, found by measuring each alone.
#
# Every layer of the float network in turn gets the rounding the quantized file has for it, all others stay float, and
# calibration images are asked. The signal-to-noise ratio of the logits says what that layer's rounding does to them:
# 10 log10 of the power of the float logits over that of their error, in decibels; less is worse. Rounding one layer
# at a
# time and comparing outputs is how Wu et al. 2020 (arXiv 2004.09602, section 5) find the layers to leave out.


IMAGES = 64
"""Enough to rank layers whose noise differs by decibels; time grows with layers times images."""


@dataclass(frozen=True)
class LayerNoise:
    """A layer by name, and the signal-to-noise ratio of the logits in decibels when it alone computes in 8 bits."""

    layer: str
    decibels: float


def rank_layers(
    float_file: ModelProto,
    quantized: ModelProto,
    images: NDArray[np.uint8],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LayerNoise, ...]:
    """Measure every quantized layer alone, the most sensitive first.

    Args:
        float_file: the float network.
        quantized: the same with pairs, from plain quantization: bias correction would be part of the difference.
        images: what to ask, uint8 `[N, H, W, C]`.
        progress: told how many layers are done.

    Raises:
        QuantizationError: no layer is quantized.
    """
    expected = _answers(float_file, images)
    quantized_weights = {node.name for node in quantized.graph.node if not _has_float_weights(node.input, float_file)}
    nodes = {layer: node for layer, node in layer_nodes(float_file).items() if node in quantized_weights}
    if not nodes:
        raise QuantizationError("no layer of the file is quantized: there is nothing to rank")
    ranked: list[LayerNoise] = []
    for layer, node in nodes.items():
        noise = _answers(graft(float_file, quantized, node), images) - expected
        ranked.append(LayerNoise(layer, decibels(expected, noise)))
        if progress is not None:
            progress(len(ranked), len(nodes))
    return tuple(sorted(ranked, key=lambda entry: entry.decibels))


def decibels(signal: NDArray[np.floating], noise: NDArray[np.floating]) -> float:
    """Power of the signal over that of the noise: infinite without noise, minus infinite where that is no number."""
    power = float(np.square(noise, dtype=np.float64).mean())
    if not np.isfinite(power):
        return -np.inf
    if power == 0:
        return np.inf
    return 10 * float(np.log10(np.square(signal, dtype=np.float64).mean() / power))


def _has_float_weights(inputs: object, float_file: ModelProto) -> bool:
    weights = {tensor.name for tensor in float_file.graph.initializer}
    names = list(inputs)  # type: ignore[call-overload]
    return len(names) < 2 or names[1] in weights


def _answers(file: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


Tune = Callable[[bool], bytes]
"""Fine-tunes the network for symmetric activations or not, and returns it as a float ONNX file."""

PTQ_STEPS: tuple[Step[PtqSettings], ...] = (
    Step("plain", "symmetric 8 bits, ranges from the extremes seen", lambda settings: settings),
    Step(
        "fast bias correction",
        "each layer's mean error is taken off its bias",
        lambda settings: replace(settings, bias_correction="fast"),
    ),
    Step(
        "accurate bias correction",
        "the same with all earlier layers already quantized",
        lambda settings: replace(settings, bias_correction="accurate"),
    ),
    Step(
        "mean ranges",
        "ranges from the mean of the images' extremes: an outlier no longer sets them",
        lambda settings: replace(settings, ranges="mean"),
    ),
    Step(
        "quantile ranges",
        "ranges that leave out the outermost 0.01 % of values",
        lambda settings: replace(settings, ranges="quantile"),
    ),
    Step(
        "asymmetric activations",
        "a zero point for each activation: h-swish, which hardly goes below 0, gets all 256 steps",
        lambda settings: replace(settings, asymmetric=True),
    ),
    Step(
        "no rounding before h-swish",
        "more exact, but ONNX Runtime computes h-swish and the layers before it in float: slower",
        lambda settings: replace(settings, enclosed=False),
    ),
    Step(
        "per-channel depthwise inputs",
        "a scale for each channel going into a depthwise layer, which ONNX Runtime then computes in float",
        lambda settings: replace(settings, per_channel_inputs=True),
    ),
)


_NOT_IN_TENSORRT = ("asymmetric activations", "per-channel depthwise inputs")
_H_SWISH_STEP = "no rounding before h-swish"


@dataclass
class OnnxLadder:
    """Makes the ladder of one float file.

    Attributes:
        file: the float network.
        calibration: images to find ranges, and sensitive layers, on.
        tune: fine-tunes when all else failed; None leaves that rung out.
        tensorrt: only rungs whose files TensorRT takes: symmetric int8, a scale a tensor.
        enclosed: place pairs for ONNX Runtime, else for OpenVINO.
        progress: told how many layers are measured.
    """

    file: ModelProto
    calibration: CalibrationImages
    tune: Tune | None = None
    tensorrt: bool = False
    enclosed: bool = True
    progress: Callable[[str, int, int], None] | None = None

    def __post_init__(self) -> None:
        self._plain: bytes | None = None
        self._tuned: dict[bool, ModelProto] = {}

    def ladder(self) -> Ladder[PtqSettings]:
        """The ladder, to be climbed once."""
        return Ladder(PtqSettings(signed=self.tensorrt, enclosed=self.enclosed), self._steps(), self._build)

    def _steps(self) -> Iterator[Step[PtqSettings]]:
        left_out = set(_NOT_IN_TENSORRT if self.tensorrt else ())
        if self.tensorrt or not self.enclosed or all(node.op_type != "HardSwish" for node in self.file.graph.node):
            left_out.add(_H_SWISH_STEP)  # there is none to begin with
        yield from (step for step in PTQ_STEPS if step.name not in left_out)
        yield from float_layer_steps(self._rank())
        if self.tune is not None:
            yield Step(
                "quantization-aware fine-tuning",
                "the network is trained a little more with rounding in its forward pass, then quantized again",
                lambda settings: replace(settings, tuned=True),
            )

    def _build(self, settings: PtqSettings) -> Built:
        file = self._tuned_file(settings.asymmetric) if settings.tuned else self.file
        built = quantize_file(file, self.calibration, settings)
        if self._plain is None:
            self._plain = built.exported.payload[MODEL]
        return built

    def _rank(self) -> tuple[LayerNoise, ...]:
        import onnx

        plain = (
            self._plain
            if self._plain is not None
            else self._build(PtqSettings(signed=self.tensorrt, enclosed=self.enclosed)).exported.payload[MODEL]
        )
        report = self.progress

        def progress(done: int, total: int) -> None:
            if report is not None:
                report("measuring each layer alone", done, total)

        return rank_layers(self.file, onnx.load_from_string(plain), self.calibration.images[:IMAGES], progress)

    def _tuned_file(self, asymmetric: bool) -> ModelProto:
        import onnx

        assert self.tune is not None  # the only step that asks for it is not there otherwise
        if asymmetric not in self._tuned:
            self._tuned[asymmetric] = onnx.load_from_string(self.tune(not asymmetric))
        return self._tuned[asymmetric]


def float_layer_steps(ranked: tuple[LayerNoise, ...]) -> Iterator[Step[PtqSettings]]:
    """Steps that keep the 1, 2, 4, ... most sensitive layers in float, up to a quarter of all."""
    count, most = 1, max(1, len(ranked) // 4)
    while count <= most:
        layers = tuple(entry.layer for entry in ranked[:count])
        yield Step(
            "1 layer in float" if count == 1 else f"{count} layers in float",
            f"the most sensitive in float, found by rounding each alone: {', '.join(layers)}",
            lambda settings, layers=layers: replace(settings, float_layers=layers),  # type: ignore[misc]
        )
        count *= 2
