"""The ladder for ONNX files, from what costs nothing when the file runs to what costs speed, then training.

1. plain: symmetric 8 bits, a scale a filter, a scale an activation tensor, from the smallest and largest value seen;
2. bias correction, fast, then accurate (Nagel et al. 2019, arXiv 1906.04721, section 4.2);
3. ranges without the outliers: mean of the images' extremes, then quantiles (Wu et al. 2020, arXiv 2004.09602);
4. asymmetric activations, for h-swish;
5. no rounding before h-swish: speed in ONNX Runtime for accuracy (`quantization.qdq`);
6. a scale for each channel of depthwise inputs, which only OpenVINO computes in 8 bits;
7. the most sensitive layers in float, 1, 2, 4, ... up to a quarter of them (`quantization.sensitivity`);
8. quantization-aware fine-tuning (`quantization.finetune`), and quantization again.

NNCF (Kozlov et al. 2020, arXiv 2002.08679) chooses where pairs go and finds the ranges on calibration images. What this
file decides for it, and why:

- *One scale for each activation tensor.* NNCF by default gives every channel of a depthwise convolution's input one of
  its own. That is more exact, but ONNX Runtime then computes these layers in float, and TensorRT refuses the file. It
  is a rung of its own (`per_channel_inputs`), not a silent default.
- *One scale for each filter of the weights*, always: every runtime takes it, and one for all filters of a depthwise
  convolution, whose filters differ a hundredfold, is what ruins MobileNets (Krishnamoorthi 2018, arXiv 1806.08342).
- *Half the range for the first layer's weights* (`OverflowFix.FIRST_LAYER`): processors without VNNI add two products
  in 16 bits and saturate; the first layer's inputs are the ones that come near.
- *One type for all activations* and pairs around every layer: see `quantization.qdq`.
- Squeeze-and-excitation's two small convolutions stay float: NNCF knows the pattern and leaves it alone.
- No telemetry is sent, and its messages and bars stay off the screen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal

from mobilenets.errors import MissingExtraError, QuantizationError, first_line
from mobilenets.exporters.onnx import MODEL
from mobilenets.exporters.prepare import Exported
from mobilenets.install import install_line
from mobilenets.output_capture import capture_python_output
from mobilenets.progress import Update, counted
from mobilenets.quantization.qdq import count_pairs, enclose_layers, layer_nodes, make_signed, make_unsigned
from mobilenets.quantization.search import CalibrationImages, Ladder, LadderStep, QuantizedFile

if TYPE_CHECKING:
    from onnx import ModelProto

    from mobilenets.quantization.sensitivity import LayerNoise

BiasCorrection = Literal["none", "fast", "accurate"]
Ranges = Literal["minmax", "mean", "quantile"]
_RANGES: Final = {"minmax": "MINMAX", "mean": "MEAN_MINMAX", "quantile": "MEAN_QUANTILE"}
_NO_TELEMETRY: Final = "NNCF_CI"


@dataclass(frozen=True)
class PtqSettings:
    """How to quantize.

    Attributes:
        bias_correction: moves each layer's bias by the mean error its rounding makes: estimated layer by layer
            (`fast`), or with all earlier layers already quantized (`accurate`).
        ranges: of activations: smallest and largest value seen, their means over the images, or the mean of the
            0.01 % and 99.99 % quantiles.
        asymmetric: a zero point of its own for each activation, so that h-swish, whose values begin at -0.375, does
            not waste half of the 256 steps.
        per_channel_inputs: a scale for each channel of a depthwise convolution's input.
        signed: store all activations as int8, as TensorRT demands, instead of as uint8 (`quantization.qdq`).
        enclosed: round what goes into h-swish too, so that ONNX Runtime computes the layer before it in 8 bits.
        float_layers: layers left in float, by name.
        tuned: start from the weights of quantization-aware fine-tuning.
    """

    bias_correction: BiasCorrection = "none"
    ranges: Ranges = "minmax"
    asymmetric: bool = False
    per_channel_inputs: bool = False
    signed: bool = False
    enclosed: bool = True
    float_layers: tuple[str, ...] = ()
    tuned: bool = False


def require_nncf() -> None:
    """Raise MissingExtraError where NNCF is not installed: before the images are read, not after."""
    if find_spec("nncf") is None:
        raise MissingExtraError(f"quantizing needs nncf: {install_line('export')}")


def quantize_file(file: ModelProto, calibration: CalibrationImages, settings: PtqSettings) -> QuantizedFile:
    """Quantize a float ONNX file; the file itself is not touched.

    Args:
        file: images uint8 `[B, H, W, C]` to logits float32 `[B, K]`, any B, as `exporters.onnx` writes it.
        calibration: images to find the ranges on.
        settings: how.

    Raises:
        QuantizationError: NNCF can't quantize this network, or there is no layer of a name in `float_layers`.
        MissingExtraError: NNCF is not installed.
    """
    import onnx

    require_nncf()
    source = onnx.ModelProto()
    source.CopyFrom(file)
    with capture_python_output():
        quantized = _run(_nncf(), source, calibration, settings)
        # Bias correction leaves notes on the types it saw, which the passes change.
        del quantized.graph.value_info[:]
        if settings.signed:
            make_signed(quantized)
        else:
            make_unsigned(quantized)
        if settings.enclosed and not settings.signed:
            enclose_layers(quantized, source, calibration, extremes=settings.ranges == "minmax")
    del quantized.metadata_props[:]
    content = quantized.SerializeToString(deterministic=True)
    exported = Exported({MODEL: content}, dynamic_batch=True)
    return QuantizedFile(exported, settings.float_layers, count_pairs(quantized).symmetric)


def _run(nncf: ModuleType, source: ModelProto, calibration: CalibrationImages, settings: PtqSettings) -> ModelProto:
    batches = list(calibration.batches())
    dataset = nncf.Dataset([{source.graph.input[0].name: batch} for batch in batches])
    preset = nncf.QuantizationPreset.MIXED if settings.asymmetric else nncf.QuantizationPreset.PERFORMANCE
    ignored = nncf.IgnoredScope(names=_node_names(source, settings.float_layers)) if settings.float_layers else None
    try:
        quantized: ModelProto = nncf.quantize(
            source,
            dataset,
            preset=preset,
            subset_size=len(batches),
            fast_bias_correction=settings.bias_correction != "accurate",
            ignored_scope=ignored,
            advanced_parameters=_advanced(nncf, settings),
        )
    except (nncf.ValidationError, nncf.InternalError, nncf.UnsupportedModelError, RuntimeError, ValueError) as error:
        raise QuantizationError(f"NNCF can't quantize this network: {first_line(error)}") from error
    return quantized


def _advanced(nncf: ModuleType, settings: PtqSettings) -> Any:
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    one_scale = None if settings.per_channel_inputs else QuantizationParameters(per_channel=False)
    return nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.FIRST_LAYER,
        disable_bias_correction=settings.bias_correction == "none",
        # Batches are for speed: statistics are of single images all the same.
        batchwise_statistics=True,
        activations_quantization_params=one_scale,
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, _RANGES[settings.ranges]),
    )


def _node_names(source: ModelProto, layers: tuple[str, ...]) -> list[str]:
    nodes = layer_nodes(source)
    unknown = [layer for layer in layers if layer not in nodes]
    if unknown:
        raise QuantizationError(f"no layer {unknown[0]} to keep in float; there are {', '.join(list(nodes)[:5])}, ...")
    return [nodes[layer] for layer in layers]


def _nncf() -> ModuleType:
    """NNCF, imported such that it reports to no one: it decides that on being imported."""
    with _variable(_NO_TELEMETRY, "1"):
        import nncf

    return nncf  # type: ignore[no-any-return,unused-ignore]


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


Tune = Callable[[bool], bytes]
"""Fine-tunes the network for symmetric activations or not, and returns it as a float ONNX file."""

PTQ_STEPS: tuple[LadderStep[PtqSettings], ...] = (
    LadderStep("plain", "symmetric 8 bits, ranges from the extremes seen", lambda settings: settings),
    LadderStep(
        "fast bias correction",
        "each layer's mean error is taken off its bias",
        lambda settings: replace(settings, bias_correction="fast"),
    ),
    LadderStep(
        "accurate bias correction",
        "the same with all earlier layers already quantized",
        lambda settings: replace(settings, bias_correction="accurate"),
    ),
    LadderStep(
        "mean ranges",
        "ranges from the mean of the images' extremes: an outlier no longer sets them",
        lambda settings: replace(settings, ranges="mean"),
    ),
    LadderStep(
        "quantile ranges",
        "ranges that leave out the outermost 0.01 % of values",
        lambda settings: replace(settings, ranges="quantile"),
    ),
    LadderStep(
        "asymmetric activations",
        "a zero point for each activation: h-swish, which hardly goes below 0, gets all 256 steps",
        lambda settings: replace(settings, asymmetric=True),
    ),
    LadderStep(
        "no rounding before h-swish",
        "more exact, but ONNX Runtime computes h-swish and the layers before it in float: slower",
        lambda settings: replace(settings, enclosed=False),
    ),
    LadderStep(
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
    progress: Update | None = None

    def __post_init__(self) -> None:
        self._plain: bytes | None = None
        self._tuned: dict[bool, ModelProto] = {}

    def ladder(self) -> Ladder[PtqSettings]:
        """The ladder, to be searched once."""
        return Ladder(PtqSettings(signed=self.tensorrt, enclosed=self.enclosed), self._steps(), self._build)

    def _steps(self) -> Iterator[LadderStep[PtqSettings]]:
        left_out = set(_NOT_IN_TENSORRT if self.tensorrt else ())
        if self.tensorrt or not self.enclosed or all(node.op_type != "HardSwish" for node in self.file.graph.node):
            left_out.add(_H_SWISH_STEP)  # there is none to begin with
        yield from (step for step in PTQ_STEPS if step.name not in left_out)
        yield from float_layer_steps(self._rank())
        if self.tune is not None:
            yield LadderStep(
                "quantization-aware fine-tuning",
                "the network is trained a little more with rounding in its forward pass, then quantized again",
                lambda settings: replace(settings, tuned=True),
            )

    def _build(self, settings: PtqSettings) -> QuantizedFile:
        file = self._tuned_file(settings.asymmetric) if settings.tuned else self.file
        built = quantize_file(file, self.calibration, settings)
        if self._plain is None:
            self._plain = built.exported.payload[MODEL]
        return built

    def _rank(self) -> tuple[LayerNoise, ...]:
        import onnx

        from mobilenets.quantization.sensitivity import RANKING_IMAGES, rank_layers

        plain = (
            self._plain
            if self._plain is not None
            else self._build(PtqSettings(signed=self.tensorrt, enclosed=self.enclosed)).exported.payload[MODEL]
        )
        count = None if self.progress is None else counted(self.progress, "measuring each layer alone")
        images = self.calibration.images[:RANKING_IMAGES]
        return rank_layers(self.file, onnx.load_from_string(plain), images, count)

    def _tuned_file(self, asymmetric: bool) -> ModelProto:
        import onnx

        assert self.tune is not None  # the only step that asks for it is not there otherwise
        if asymmetric not in self._tuned:
            self._tuned[asymmetric] = onnx.load_from_string(self.tune(not asymmetric))
        return self._tuned[asymmetric]


def float_layer_steps(ranked: tuple[LayerNoise, ...]) -> Iterator[LadderStep[PtqSettings]]:
    """Steps that keep the 1, 2, 4, ... most sensitive layers in float, up to a quarter of all."""
    count, most = 1, max(1, len(ranked) // 4)
    while count <= most:
        layers = tuple(entry.layer for entry in ranked[:count])
        yield LadderStep(
            "1 layer in float" if count == 1 else f"{count} layers in float",
            f"the most sensitive in float, found by rounding each alone: {', '.join(layers)}",
            lambda settings, layers=layers: replace(settings, float_layers=layers),  # type: ignore[misc]
        )
        count *= 2
