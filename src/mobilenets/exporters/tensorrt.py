"""TensorRT's written rules for ONNX files, looked up in a file; TensorRT itself is not needed, and was not run.

Sources: the operators list of onnx-tensorrt (`docs/operators.md`), by which `Cast` alone takes UINT8, zero points of
`QuantizeLinear` and `DequantizeLinear` are 0, and weights of `Conv` are stored in the file, also behind a
`DequantizeLinear`. NVIDIA/TensorRT#3985: a uint8 input has to feed a cast directly, which excludes even a transpose.
TensorRT's "Working with Quantized Types": activations have one scale a tensor, quantized values are signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSETS = range(9, 21)
"""Those TensorRT 10 reads."""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def broken_rules(file: ModelProto) -> tuple[str, ...]:
    """Each rule that an ONNX file breaks, in words with the first place where it does; empty for a file it can take."""
    constants = _constants(file)
    checks = (
        _opset(file),
        _uint8_elsewhere(file, constants),
        *(_quantization(node, constants) for node in file.graph.node if node.op_type in _QUANTIZERS),
        *(_weights(node, constants, file) for node in file.graph.node if node.op_type == "Conv"),
    )
    found: dict[str, str] = {}
    for rule, place in filter(None, checks):
        found.setdefault(rule, place)
    return tuple(f"{rule} ({place})" for rule, place in found.items())


def tensorrt_sentence(payload: Mapping[str, bytes]) -> str:
    """Whether TensorRT takes an ONNX payload by its written rules, as a sentence for the file's provenance."""
    import onnx

    (content,) = payload.values()
    broken = broken_rules(onnx.load_from_string(content))
    return "keeps its written rules; not run there" if not broken else f"won't take it: {'; '.join(broken)}"


def _opset(file: ModelProto) -> tuple[str, str] | None:
    version = next(entry.version for entry in file.opset_import if entry.domain in ("", "ai.onnx"))
    return None if version in OPSETS else ("an opset it does not read", str(version))


def _uint8_elsewhere(file: ModelProto, constants: Mapping[str, NDArray[np.generic]]) -> tuple[str, str] | None:
    """Anything unsigned but inputs that feed casts and nothing else."""
    from onnx import TensorProto, shape_inference

    unsigned = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
    rule = "uint8 values other than an input that feeds a Cast"
    inferred = shape_inference.infer_shapes(file, strict_mode=True).graph
    inputs = {value.name for value in inferred.input if value.type.tensor_type.elem_type in unsigned}
    for node in inferred.node:
        if node.op_type != "Cast" and inputs.intersection(node.input):
            return rule, f"{node.op_type} {node.name}"
    for value in (*inferred.value_info, *inferred.output):
        if value.type.tensor_type.elem_type in unsigned:
            return rule, value.name
    return next(((rule, name) for name, values in constants.items() if values.dtype.kind == "u"), None)


def _quantization(node: NodeProto, constants: Mapping[str, NDArray[np.generic]]) -> tuple[str, str] | None:
    """Symmetric int8: zero points of 0, one scale for each tensor that is no weight."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    # Without a zero point the stored type is uint8, unless what is dequantized says otherwise.
    signed = zero is not None and zero.dtype == np.int8
    if zero is None and node.op_type == "DequantizeLinear" and node.input[0] in constants:
        signed = constants[node.input[0]].dtype == np.int8
    if not signed or (zero is not None and zero.astype(np.int16).any()):
        return "8 bits that are not symmetric int8", node.name or node.output[0]
    scale = constants.get(node.input[1])
    if scale is None or (scale.size > 1 and node.input[0] not in constants):
        return "an activation with a scale for each channel", node.name or node.output[0]
    return None


def _weights(node: NodeProto, constants: Mapping[str, NDArray[np.generic]], file: ModelProto) -> tuple[str, str] | None:
    """A convolution's weights are stored in the file, at most widened, reshaped or dequantized on their way."""
    made_by = {output: other for other in file.graph.node for output in other.output}
    name = node.input[1]
    while name not in constants and name in made_by:
        if made_by[name].op_type not in ("DequantizeLinear", "Cast", "Reshape", "Transpose", "QuantizeLinear"):
            break
        name = made_by[name].input[0]
    return None if name in constants else ("weights that are computed", node.name)


def _constants(file: ModelProto) -> dict[str, NDArray[np.generic]]:
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    computed = {
        node.output[0]: numpy_helper.to_array(attribute.t)
        for node in file.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return {**stored, **computed}
