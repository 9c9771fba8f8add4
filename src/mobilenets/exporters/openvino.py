"""A network as OpenVINO's own two files, translated from the ONNX graph.

From ONNX rather than from PyTorch directly: one graph, folded and checked once, serves both formats, and stays without
the layout changes that OpenVINO's PyTorch reader keeps.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from mobilenets.artifact.container import OPENVINO_FILES
from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError, first_line
from mobilenets.exporters.onnx import require_exporter, to_onnx
from mobilenets.exporters.prepare import Exported
from mobilenets.files import temporary_folder
from mobilenets.install import install_line
from mobilenets.output_capture import capture_all_output
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.openvino_backend import load_openvino


def require_openvino() -> None:
    """Raise MissingExtraError where the extra `export` is not installed."""
    require_exporter()
    if find_spec("openvino") is None:
        raise MissingExtraError(f"exporting to openvino needs openvino: {install_line('export')}")


def to_openvino(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
    """Translate a network to OpenVINO's `model.xml` and `model.bin`; the model itself is not touched.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        precision: `fp32`, or `fp16` to store the weights in half the bytes.

    Raises:
        ExportError: the network can't be written.
        MobilenetsError: there is no such precision.
        MissingExtraError: the extra `export` is not installed.
    """
    require_openvino()
    if precision not in ("fp32", "fp16"):
        raise MobilenetsError(f"openvino is exported as fp32 or fp16, not {precision}")
    (onnx,) = to_onnx(model, preprocessing).payload.values()
    openvino = load_openvino()
    with temporary_folder() as folder, capture_all_output():
        (folder / "model.onnx").write_bytes(onnx)
        try:
            converted = openvino.convert_model(folder / "model.onnx")
        except (RuntimeError, openvino.OpConversionFailure) as error:
            raise ExportError(f"the network can't be written for OpenVINO: {first_line(error)}") from error
        # Where the conversion was done from is of no use to others, and differs from machine to machine.
        converted.set_rt_info("", ["conversion_parameters", "input_model"])
        openvino.save_model(converted, folder / OPENVINO_FILES[0], compress_to_fp16=precision == "fp16")
        payload = {name: (folder / name).read_bytes() for name in OPENVINO_FILES}
    return Exported(payload, dynamic_batch=True)
