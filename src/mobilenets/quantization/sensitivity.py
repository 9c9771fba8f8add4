"""Which layers suffer most from 8 bits, found by measuring each alone.

Every layer of the float network in turn gets the rounding the quantized file has for it, all others stay float, and
calibration images are asked. The signal-to-noise ratio of the logits says what that layer's rounding does to them:
10 log10 of the power of the float logits over that of their error, in decibels; less is worse. Rounding one layer at a
time and comparing outputs is how Wu et al. 2020 (arXiv 2004.09602, section 5) find the layers to leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import QuantizationError
from mobilenets.machine import usable_cores
from mobilenets.progress import Count
from mobilenets.quantization.qdq import graft, layer_nodes

if TYPE_CHECKING:
    from onnx import ModelProto

RANKING_IMAGES = 64
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
    progress: Count | None = None,
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
    """Power of the signal over that of the noise: infinite without noise, minus infinite where it is not finite."""
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
