"""OpenVINO on the CPU, for its own files and for ONNX files as they are; no PyTorch here."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import BackendError, first_line
from mobilenets.output_capture import capture_stderr
from mobilenets.runtime.loaded_file import LoadedFile, ResourcePool, pool_size, require_signature, unanswered


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry and return its module.

    `import openvino` alone reports to Google Analytics, with an identity it keeps in `~/intel`, unless one opts out.
    Where its package for that can't be imported it takes a stub of its own, and nothing is sent.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


openvino = load_openvino()
_DEVICE = "CPU"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
# A file compiled for one batch size answers some 5 % faster than one compiled for any. Each costs about half a second
# and its share of memory, so only the first two sizes asked for, in practice 1 and one other, get their own.
_FIXED_SIZES = 2
_ANY = -1


@dataclass(frozen=True)
class OpenVinoBackend(LoadedFile):
    """A file in OpenVINO. It is compiled when images of a new batch size first come.

    A request serves one thread at a time, so threads borrow one each.
    """

    core: Any
    model: Any
    pools: dict[int, ResourcePool[Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    name: str = "openvino"

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            with self._requests(len(images)).borrow() as request:
                answered = request.infer([images], share_inputs=True, share_outputs=True)
                # A copy: the next call writes into the same memory.
                return np.array(answered[0], dtype=np.float32)
        except (RuntimeError, MemoryError) as error:
            raise unanswered(self.artifact, "OpenVINO", len(images), _reason(error)) from error

    def _requests(self, batch: int) -> ResourcePool[Any]:
        with self.lock:
            if batch not in self.pools and len(self.pools) >= _FIXED_SIZES:
                batch = _ANY
            if batch not in self.pools:
                most = pool_size(self.threads)
                make = _Requests(partial(self._compile, batch), most - 1)
                self.pools[batch] = ResourcePool(make.another, most)
            return self.pools[batch]

    def _compile(self, batch: int, streams: int) -> Any:
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.threads * streams,
            # Always said: by itself OpenVINO computes float files in bf16 on processors that can.
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "CACHE_DIR": "",
        }
        try:
            model = self.model.clone()
            if self.artifact.description.dynamic_batch:
                model.reshape([batch, *self.artifact.description.image_shape])
            return self.core.compile_model(model, _DEVICE, properties)
        except RuntimeError as error:
            raise BackendError(f"{self.artifact.path}: OpenVINO can't compile it: {_reason(error)}") from error


class _Requests:
    """Makes the requests for one batch size.

    OpenVINO computes as many requests of a compiled file at once as that has streams, and a file of one stream answers
    a single caller fastest. So the first request has such a file for itself; when a second thread asks meanwhile, the
    file is compiled once more with `streams` for all others.
    """

    def __init__(self, compiled: Callable[[int], Any], streams: int) -> None:
        self._compile = compiled
        self._streams = streams
        self._lock = threading.Lock()
        self._single: Any = None
        self._shared: Any = None

    def another(self) -> Any:
        """A request that no thread has yet."""
        with self._lock:
            if self._single is None:
                self._single = self._compile(1)
                return self._single.create_infer_request()
            if self._shared is None:
                self._shared = self._compile(self._streams)
            return self._shared.create_infer_request()


def open_file(artifact: Artifact, threads: int, precision: str) -> OpenVinoBackend:
    """Load OpenVINO's folder or an ONNX file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this OpenVINO can't run the file.
        ArtifactError: the file is not what its description says.
    """
    core = _core()
    try:
        with capture_stderr():  # its readers of other formats each say that the file is none of theirs
            model = core.read_model(artifact.model_path)
    except RuntimeError as error:
        raise BackendError(f"{artifact.path}: OpenVINO can't read it: {_reason(error)}") from error
    inputs = [(one.get_element_type().get_type_name(), _sizes(one.get_partial_shape())) for one in model.inputs]
    require_signature(artifact, inputs, [_sizes(one.get_partial_shape()) for one in model.outputs])
    return OpenVinoBackend(artifact, threads, precision, core, model)


@cache
def float_precisions() -> tuple[str, ...]:
    """What OpenVINO can compute a float file in on this processor, fp32 first."""
    able = _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(precision for precision in ("bf16", "fp16") if precision.upper() in able))


@cache
def _core() -> Any:
    """One for the process: making it looks for the plugins on disk."""
    return openvino.Core()


def _sizes(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else None for size in shape)


def _reason(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from; what happened comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)
