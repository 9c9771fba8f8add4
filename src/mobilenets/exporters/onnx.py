"""A network as ONNX: one plain graph that takes pictures as they are.

The file's input `images` is uint8 `[B, H, W, C]`, its output `logits` float32 `[B, K]`, with any number of images a
call. Normalisation is inside, so whoever runs the file can't get it wrong; running it needs no PyTorch.

Whether TensorRT takes a file is looked up in its written rules; TensorRT itself is not needed, and was not run.
Sources: the operators list of onnx-tensorrt (`docs/operators.md`), by which `Cast` alone takes UINT8, zero points of
`QuantizeLinear` and `DequantizeLinear` are 0, and weights of `Conv` are stored in the file, also behind a
`DequantizeLinear`. NVIDIA/TensorRT#3985: a uint8 input has to feed a cast directly, which excludes even a transpose.
TensorRT's "Working with Quantized Types": activations have one scale a tensor, quantized values are signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError
from mobilenets.exporters.prepare import Exported, example_images, exportable
from mobilenets.install import install_line
from mobilenets.output_capture import capture_python_output
from mobilenets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 18
"""The exporter's own: others are converted from it. Every runtime the project names has it, TensorRT since 10."""
MODEL = "model.onnx"
TENSORRT_OPSETS = range(9, 21)
"""Those TensorRT 10 reads."""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def require_exporter() -> None:
    """Raise MissingExtraError where the extra `export` is not installed: before hours of work, not after."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"exporting needs {' and '.join(missing)}: {install_line('export')}")


def to_onnx(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
    """Translate a network to ONNX; the model itself is not touched.

    Batch norm is folded into the convolutions, h-swish and h-sigmoid stay single `HardSwish` and `HardSigmoid`
    operators, and the one `Transpose` is that of the pictures from `[B, H, W, C]`.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        precision: `fp32`, or `fp16` to store the weights in half the bytes; they are widened when the file is loaded,
            so that every runtime computes as fast and nearly as exactly as before.

    Raises:
        ExportError: the network can't be written as ONNX.
        MobilenetsError: there is no such precision.
        MissingExtraError: the extra `export` is not installed.
    """
    require_exporter()
    if precision not in ("fp32", "fp16"):
        raise MobilenetsError(f"onnx is exported as fp32 or fp16, not {precision}")
    # Two images: torch.export would take a batch of one for a constant.
    file = _translate(exportable(model, preprocessing), example_images(preprocessing, 2))
    _strip_traces(file)
    if precision == "fp16":
        _store_half(file)
    return Exported({MODEL: file.SerializeToString(deterministic=True)}, dynamic_batch=True)


def _translate(network: nn.Module, example: torch.Tensor) -> ModelProto:
    with capture_python_output(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            # The exporter's own text is a page of advice to its authors; what went wrong is its cause.
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"the network can't be written as ONNX: {reason}") from error
    assert program is not None  # the new exporter always returns one
    return program.model_proto


def _strip_traces(file: ModelProto) -> None:
    """Drop what only helps to debug the exporter: source lines of this machine, unlike on every other."""
    file.doc_string = ""
    file.graph.doc_string = ""
    del file.metadata_props[:]
    del file.graph.metadata_props[:]
    del file.graph.value_info[:]
    for node in file.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    values: Iterable[object] = (*file.graph.input, *file.graph.output, *file.graph.initializer)
    for value in values:
        del value.metadata_props[:]  # type: ignore[attr-defined]  # the three messages share no base


def _store_half(file: ModelProto) -> None:
    """Keep float32 weights as float16, each behind a `Cast` that the runtimes compute once, when they load the file."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = file.graph, []
    for tensor in list(graph.initializer):
        # Single numbers are bounds and factors: no bytes to win, and their last digits may matter.
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= 1:
            continue
        with np.errstate(over="ignore"):  # told of below, by name
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ExportError(f"the weight {tensor.name} is beyond what fp16 holds (65504): export it as fp32")
        stored = f"{tensor.name}.fp16"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


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
    return None if version in TENSORRT_OPSETS else ("an opset it does not read", str(version))


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
