"""A network as one ONNX file that takes pictures as they are, and the proof that it answers as the network did.

The file's input `images` is uint8 `[B, H, W, C]`, its output `logits` float32 `[B, K]`, with any number of images a
call. Normalisation is inside, so whoever runs the file can't get it wrong. Class names, preprocessing, a format version
and a digest travel along as JSON under the metadata key `mobilenets`; running the file needs no PyTorch.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from mobilenets.errors import DataError, ExportError, MissingExtraError
from mobilenets.files import write_atomically
from mobilenets.models.normalizer import Normalizer
from mobilenets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from onnx import ModelProto

    from mobilenets.evaluation.evaluate import Predict

METADATA_KEY = "mobilenets"
FORMAT = 1
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """How near a file's logits are to its network's: largest and mean |difference|, top-1 agreement in percent."""

    max_difference: float
    mean_difference: float
    top1_agreement: float


def export_onnx(model: nn.Module, path: Path, *, preprocessing: Preprocessing, classes: Sequence[str]) -> None:
    """Write `model` to `path` as ONNX, whole or not at all; the model itself is not touched.

    A copy is exported, in evaluation mode and on the CPU. Batch norm is folded into the convolutions in the file
    itself, h-swish and h-sigmoid stay single `HardSwish` and `HardSigmoid` operators.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        path: the file to write.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        classes: the K class names in output order.

    Raises:
        ExportError: the network can't be written as ONNX, or has not as many outputs as there are classes.
        MissingExtraError: the extra `export` is not installed.
    """
    require_exporter()
    network = nn.Sequential(Normalizer(preprocessing), _Contiguous(), _prepared(model))
    size, channels = preprocessing.image_size, preprocessing.channels
    # Two images: torch.export would take a batch of one for a constant.
    example = torch.zeros(2, size, size, channels, dtype=torch.uint8)
    file = _translate(network, example)
    outputs = file.graph.output[0].type.tensor_type.shape.dim
    if len(outputs) != 2 or outputs[1].dim_value != len(classes):
        answered = [dimension.dim_param or dimension.dim_value for dimension in outputs]
        raise ExportError(f"the network's output is {answered}, but there are {len(classes)} classes: name each output")
    _strip_traces(file)
    _describe(file, preprocessing, classes)
    write_atomically(path, lambda temporary: temporary.write_bytes(file.SerializeToString(deterministic=True)))


def check_parity(
    network_predict: Predict, file_predict: Predict, images: NDArray[np.uint8], tolerance: float = TOLERANCE
) -> Parity:
    """Ask the network and its exported file the same images and compare the logits.

    Args:
        network_predict: the network as a function of images `[B, H, W, C]` uint8 to logits `[B, K]`.
        file_predict: the exported file likewise.
        images: what to ask; real ones, since noise hardly moves most networks.
        tolerance: largest difference allowed, relative to the network's largest |logit| where that is above 1.

    Raises:
        ExportError: the answers differ in shape, by more than `tolerance`, or one is not finite.
        DataError: there are no images.
    """
    if len(images) == 0:
        raise DataError("an exported file can't be checked without images: pass at least one")
    expected, actual = network_predict(images), file_predict(images)
    if expected.shape != actual.shape:
        raise ExportError(
            f"the file answers with {actual.shape} logits, the network with {expected.shape}: export again"
        )
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise ExportError(
            "the network or its file answers with infinite logits or such that are no numbers: train again"
        )
    differences = np.abs(expected.astype(np.float64) - actual)
    largest = float(differences.max())
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    if largest > allowed:
        raise ExportError(
            f"the file's logits differ from the network's by up to {largest:.2g}, more than {allowed:.2g}: "
            "don't use this file"
        )
    agreement = 100 * float((expected.argmax(axis=1) == actual.argmax(axis=1)).mean())
    return Parity(largest, float(differences.mean()), agreement)


def digest(file: ModelProto) -> str:
    """SHA-256 of a file's graph and weights, leaving out its metadata: what `export_onnx` writes into them."""
    bare = copy.deepcopy(file)
    del bare.metadata_props[:]
    return "sha256:" + hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


class _Contiguous(nn.Module):
    """Give traced images the plain memory layout.

    From `[B, H, W, C]` they come channels-last; to keep that layout PyTorch's global pooling restrides its output,
    which the exporter spells out as shape arithmetic and a gather after every pool. ONNX knows no memory layouts.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.contiguous()


def require_exporter() -> None:
    """Raise MissingExtraError where the extra `export` is not installed: before hours of work, not after."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"exporting needs {' and '.join(missing)}: pip install 'mobilenets[export]'")


def _prepared(model: nn.Module) -> nn.Module:
    """A copy to export: evaluation mode, CPU, batch norm folded, nothing in place.

    The exporter's own optimizer would fold batch norm too, but only after tracing, decomposing and translating it, and
    it rewrites every in-place activation: preparing the copy makes exporting three times as fast.
    """
    prepared = copy.deepcopy(model).cpu().eval()
    try:
        prepared = fuse(prepared)
    except TraceError:
        # Control flow that depends on the input: such a network is exported as it is and folded by the optimizer.
        prepared = copy.deepcopy(model).cpu().eval()
    for module in prepared.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return prepared


def _translate(network: nn.Module, example: torch.Tensor) -> ModelProto:
    with _quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks, which concern its authors, off the user's screen: warnings, logs, printed graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _strip_traces(file: ModelProto) -> None:
    """Drop what only helps to debug the exporter: source lines of this machine, unlike on every other."""
    file.doc_string = ""
    file.graph.doc_string = ""
    del file.graph.metadata_props[:]
    del file.graph.value_info[:]
    for node in file.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*file.graph.input, *file.graph.output, *file.graph.initializer):
        del value.metadata_props[:]


def _describe(file: ModelProto, preprocessing: Preprocessing, classes: Sequence[str]) -> None:
    del file.metadata_props[:]
    description = {
        "format": FORMAT,
        "classes": list(classes),
        "preprocessing": preprocessing.to_dict(),
        "digest": digest(file),
    }
    entry = file.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description, ensure_ascii=False)
