"""A network as ONNX: one plain graph that takes pictures as they are.

The file's input `images` is uint8 `[B, H, W, C]`, its output `logits` float32 `[B, K]`, with any number of images a
call. Normalisation is inside, so whoever runs the file can't get it wrong; running it needs no PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mobilenets.artifact.container import Artifact, check_suffix, write_artifact
from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError
from mobilenets.exporters.describe import Subject, describe, golden_pairs
from mobilenets.exporters.parity import compare_answers, describe_failure, network_predict, opened
from mobilenets.exporters.prepare import Exported, check_outputs, example_images, exportable
from mobilenets.exporters.verify import COUNT as GOLDEN_IMAGES
from mobilenets.exporters.verify import measure_bounds, synthetic_images
from mobilenets.image_record import ImageRecord
from mobilenets.install import install_line
from mobilenets.output_capture import capture_python_output
from mobilenets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The exporter's own: others are converted from it. Every runtime the project names has it, TensorRT since 10."""
MODEL = "model.onnx"


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


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    trained_on: ImageRecord | None = None,
) -> Artifact:
    """Write any network to `path` as a described ONNX file, whole or not at all; the model itself is not touched.

    The short way, for a network in memory and without images of its own: it is checked on made images only.
    `mobilenets.workflows.export` also proves the file on a test split and calibrates its probabilities.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        path: the file to write, ending in `.onnx`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        classes: the K class names in output order.
        trained_on: which images it was trained on, for the file not to be scored on them.

    Returns:
        The file with its description.

    Raises:
        ExportError: the network can't be written as ONNX, has not as many outputs as there are classes, or the file
            does not answer as it does.
        ArtifactError: the name does not end in `.onnx`.
        MissingExtraError: the extra `export` is not installed.
    """
    path = Path(path)
    check_suffix(path, "onnx")
    subject = Subject(copy.deepcopy(model).eval(), tuple(classes), preprocessing, {}, trained_on)
    images = synthetic_images(preprocessing, GOLDEN_IMAGES)
    expected = network_predict(subject.model, preprocessing)(images)
    check_outputs(expected.shape, len(classes))
    exported = to_onnx(model, preprocessing)
    with opened(exported, "onnx", precision="fp32", preprocessing=preprocessing, classes=classes, threads=1) as backend:
        actual = backend.predict(images)
    parity = compare_answers(expected, actual)
    if not parity.holds:
        raise ExportError(f"{describe_failure(parity)}: nothing is written to {path}")
    bounds = measure_bounds(subject, "onnx", "fp32", exported, images, actual, real=False, threads=1)
    golden = golden_pairs(images, actual, "fp32", bounds)
    return write_artifact(path, exported.payload, describe(subject, "onnx", "fp32", exported, golden))
