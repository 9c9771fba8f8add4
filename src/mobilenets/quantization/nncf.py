"""Post-training quantization of an ONNX file by NNCF: settings in, a QDQ file out.

NNCF (Kozlov et al. 2020, arXiv 2002.08679) chooses where pairs go and finds the ranges on calibration images. What this
file decides for it, and why:

- *One scale for each activation tensor.* NNCF by default gives every channel of a depthwise convolution's input one of
  its own. That is more exact, but ONNX Runtime then computes these layers in float, and TensorRT refuses the file. It
  is a rung of its own (`per_channel_inputs`), not a silent default.
- *One scale for each filter of the weights*, always: every runtime takes it, and one for all filters of a depthwise
  convolution, whose filters differ a hundredfold, is what ruins MobileNets (Krishnamoorthi 2018, arXiv 1806.08342).
- *Half the range for the first layer's weights* (`OverflowFix.FIRST_LAYER`): processors without VNNI add two products
  in 16 bits and saturate; the first layer's inputs are the ones that come near.
- *One type for all activations* and pairs around every layer: see `compression.fusing`.
- Squeeze-and-excitation's two small convolutions stay float: NNCF knows the pattern and leaves it alone.
- No telemetry is sent, and its remarks and bars stay off the screen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal

from mobilenets.errors import MissingExtraError, QuantizationError, first_line
from mobilenets.exporters.onnx import MODEL
from mobilenets.exporters.prepare import Exported
from mobilenets.install import install_line
from mobilenets.output_capture import capture_python_output
from mobilenets.quantization.images import CalibrationImages
from mobilenets.quantization.qdq import count_pairs, enclose_layers, layer_nodes, make_signed, make_unsigned
from mobilenets.quantization.search import Built

if TYPE_CHECKING:
    from onnx import ModelProto

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
        signed: store all activations as int8, as TensorRT demands, instead of as uint8 (`compression.fusing`).
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


def quantize_file(file: ModelProto, calibration: CalibrationImages, settings: PtqSettings) -> Built:
    """Quantize a float ONNX file; the file itself is not touched.

    Args:
        file: images uint8 `[B, H, W, C]` to logits float32 `[B, K]`, any B, as `exporting.onnx` writes it.
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
    return Built(exported, settings.float_layers, count_pairs(quantized).symmetric)


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
    """NNCF, imported such that it reports to nobody: it decides that on being imported."""
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
