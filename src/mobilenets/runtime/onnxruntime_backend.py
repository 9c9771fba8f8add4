"""ONNX Runtime on the CPU, the core install's runtime; no PyTorch here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from mobilenets.artifact.container import Artifact
from mobilenets.errors import BackendError, first_line
from mobilenets.runtime.loaded_file import LoadedFile, require_signature, unanswered

# ONNX Runtime's exceptions share no base of their own.
_FAILURES = (
    *(failures.Fail, failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf),
    *(failures.NoSuchFile, failures.NotImplemented, failures.RuntimeException, RuntimeError, MemoryError),
)
# How it says that there is not enough memory, for which several operators have a text of their own.
_NO_MEMORY = ("bad_alloc", "AllocateRaw", "Failed to allocate memory", "would require more than", "SafeInt")
_RUNNING = re.compile(r"while running (\w+) node")
_FATAL_ONLY = 4  # what goes wrong reaches us as an exception; its copy on stderr is noise


@dataclass(frozen=True)
class OnnxRuntimeBackend(LoadedFile):
    """An ONNX file in ONNX Runtime. `precision` is of its arithmetic: ONNX Runtime computes what is written there.

    A session may be run by several threads at once (ONNX Runtime, "Thread safety").
    """

    session: onnxruntime.InferenceSession
    name: str = "onnxruntime"

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: images})
        except _FAILURES as error:
            raise unanswered(self.artifact, "ONNX Runtime", len(images), _reason(error)) from error
        return np.array(logits, dtype=np.float32)  # a copy: what comes is a view of the session's memory


def open_file(artifact: Artifact, threads: int, precision: str) -> OnnxRuntimeBackend:
    """Load an ONNX file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this ONNX Runtime can't run the file.
        ArtifactError: the file is not what its description says.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    try:
        session = onnxruntime.InferenceSession(artifact.model_path, options, providers=["CPUExecutionProvider"])
    except _FAILURES as error:
        reason = _reason(error).rpartition(" : ")[2]
        raise BackendError(f"{artifact.path}: ONNX Runtime can't run it: {reason}") from error
    inputs = [(one.type, _sizes(one.shape)) for one in session.get_inputs()]
    require_signature(artifact, inputs, [_sizes(one.shape) for one in session.get_outputs()])
    return OnnxRuntimeBackend(artifact, threads, precision, session)


def _reason(error: BaseException) -> str:
    """Why an answer failed, without the places in ONNX Runtime's source of which it tells before."""
    reason = first_line(error)
    if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
        operator = _RUNNING.search(reason)
        return f"{f'its {operator.group(1)}' if operator else 'it'} takes more memory than there is"
    return reason


def _sizes(shape: list[Any]) -> tuple[int | None, ...]:
    """A free dimension has a name, or None."""
    return tuple(size if isinstance(size, int) else None for size in shape)
