"""LiteRT (TensorFlow Lite) on the CPU with its XNNPACK kernels; no PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import BackendError, first_line
from mobilenets.output_capture import capture_stderr
from mobilenets.runtime.loaded_file import (
    LoadedFile,
    ResourcePool,
    pool_size,
    read_model,
    require_signature,
    unanswered,
)


@dataclass(frozen=True)
class LiteRtBackend(LoadedFile):
    """A .tflite file in LiteRT's interpreters, which compute what is written there: `precision` is that arithmetic.

    An interpreter serves one thread at a time, so threads borrow one each.
    """

    interpreters: ResourcePool[Interpreter]
    name: str = "litert"

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            with self.interpreters.borrow() as interpreter:
                return _ask(interpreter, images)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise unanswered(self.artifact, "LiteRT", len(images), first_line(error)) from error


def open_file(artifact: Artifact, threads: int, precision: str) -> LiteRtBackend:
    """Load a .tflite file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this LiteRT can't run the file.
        ArtifactError: the file is not what its description says.
    """
    content = read_model(artifact)  # once: interpreters made later must be of the same file
    make = partial(_load, content, threads)
    try:
        interpreter = make()
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{artifact.path}: LiteRT can't run it: {first_line(error)}") from error
    inputs = [(np.dtype(one["dtype"]).name, _sizes(one)) for one in interpreter.get_input_details()]
    require_signature(artifact, inputs, [_sizes(one) for one in interpreter.get_output_details()])
    interpreters = ResourcePool(make, pool_size(threads))
    interpreters.add(interpreter)
    return LiteRtBackend(artifact, threads, precision, interpreters)


def _load(content: bytes, threads: int) -> Interpreter:
    """An interpreter, which works on `content` itself: several share its weights until XNNPACK arranges its own."""
    with capture_stderr():
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter


def _ask(interpreter: Interpreter, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    source = interpreter.get_input_details()[0]
    if source["shape"][0] != len(images):
        with capture_stderr():
            interpreter.resize_tensor_input(source["index"], list(images.shape))
            interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], images)
    interpreter.invoke()
    output = interpreter.get_output_details()[0]
    return _to_float(interpreter.get_tensor(output["index"]), output)


def _sizes(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor["shape"])


def _to_float(values: NDArray[Any], output: dict[str, Any]) -> NDArray[np.float32]:
    """An 8-bit file may answer in 8 bits; its scale and zero point say what they stand for."""
    scale, zero_point = output["quantization"] if values.dtype.kind in "iu" else (1.0, 0)
    return ((values.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)
