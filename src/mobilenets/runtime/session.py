"""Opening an exported ONNX file in ONNX Runtime and asking it; no PyTorch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from mobilenets.errors import DataError, ExportError, MobilenetsError
from mobilenets.machine import usable_cores

# ONNX Runtime's exceptions share no base of their own.
_LOAD_FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoSuchFile,
    failures.NotImplemented,
    failures.RuntimeException,
    RuntimeError,
)
_ERRORS_ONLY = 3


def open_session(onnx_file: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Load a file for CPU inference with a fixed number of threads.

    Args:
        onnx_file: an exported file.
        threads: threads one answer may use; None takes every core this process may run on. Always set explicitly, since
            ONNX Runtime's own choice ignores the limits of containers and depends on the machine.

    Raises:
        ExportError: the file is missing, damaged, or needs what this ONNX Runtime does not have.
        MobilenetsError: fewer than 1 thread.
    """
    if threads is not None and threads < 1:
        raise MobilenetsError(f"a session needs at least 1 thread, not {threads}")
    if not onnx_file.is_file():
        raise ExportError(f"{onnx_file} is no file: export the network first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    except _LOAD_FAILURES as error:
        reason = str(error).splitlines()[0].rpartition(" : ")[2]
        raise ExportError(f"{onnx_file} can't be loaded, export it again: {reason}") from error


def input_shape(session: onnxruntime.InferenceSession) -> tuple[int, int, int]:
    """Height, width and channels of the images an exported file takes.

    Raises:
        ExportError: the file's input is not uint8 `[B, H, W, C]` with fixed H, W and C.
    """
    images, *others = session.get_inputs()
    if others or images.type != "tensor(uint8)" or len(images.shape) != 4:
        raise ExportError(
            f"the file takes {images.type} {images.shape}, not uint8 images [B, H, W, C]: "
            "it was not exported by mobilenets"
        )
    height, width, channels = images.shape[1:]
    if not all(isinstance(size, int) for size in (height, width, channels)):
        raise ExportError(f"the file does not fix its image size {images.shape}: it was not exported by mobilenets")
    return height, width, channels


def predict_function(session: onnxruntime.InferenceSession) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The session as a function of images `[B, H, W, C]` uint8 to logits `[B, K]` float32.

    Raises:
        ExportError: the session's input is not such images.
        DataError: (the function) images of another type or size than the file takes.
    """
    expected = input_shape(session)
    input_name = session.get_inputs()[0].name
    output_name = session.get_outputs()[0].name

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise DataError(
                f"the file takes uint8 images [B, {', '.join(map(str, expected))}], not {images.dtype} {images.shape}"
            )
        logits: NDArray[np.float32] = session.run([output_name], {input_name: images})[0]
        return logits

    return predict
