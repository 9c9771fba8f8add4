"""LiteRT (TensorFlow Lite) on the CPU with its XNNPACK kernels; no PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import BackendError, first_line
from mobilenets.runtime.silence import silent_stderr
from mobilenets.runtime.tensors import one_by_one, require_images, require_signature


@dataclass(frozen=True)
class LiteRtBackend:
    """A .tflite file in LiteRT's interpreter, which computes what is written there: `precision` is that arithmetic."""

    artifact: Artifact
    threads: int
    precision: str
    interpreter: Interpreter
    name: str = "litert"

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer images uint8 `[B, H, W, C]` with logits float32 `[B, K]`.

        Raises:
            DataError: images of another type or size than the file takes.
            BackendError: LiteRT can't compute the file for so many images.
        """
        images = require_images(images, self.artifact)
        return self._answer(images) if self.artifact.description.dynamic_batch else one_by_one(images, self._answer)

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter = self.interpreter
        index = interpreter.get_input_details()[0]["index"]
        try:
            if interpreter.get_input_details()[0]["shape"][0] != len(images):
                with silent_stderr():
                    interpreter.resize_tensor_input(index, list(images.shape))
                    interpreter.allocate_tensors()
            interpreter.set_tensor(index, images)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"{self.artifact.path}: LiteRT can't answer {len(images)} images at once: {first_line(error)}"
            ) from error
        output = interpreter.get_output_details()[0]
        return _to_float(interpreter.get_tensor(output["index"]), output)


def open_file(artifact: Artifact, threads: int, precision: str) -> LiteRtBackend:
    """Load a .tflite file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this LiteRT can't run the file.
        ArtifactError: the file is not what its description says.
    """
    try:
        with silent_stderr():
            interpreter = Interpreter(model_path=str(artifact.model_path), num_threads=threads)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{artifact.path}: LiteRT can't run it: {first_line(error)}") from error
    inputs = [(np.dtype(one["dtype"]).name, _sizes(one)) for one in interpreter.get_input_details()]
    require_signature(artifact, inputs, [_sizes(one) for one in interpreter.get_output_details()])
    return LiteRtBackend(artifact, threads, precision, interpreter)


def _sizes(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor["shape"])


def _to_float(values: NDArray[Any], output: dict[str, Any]) -> NDArray[np.float32]:
    """An 8-bit file may answer in 8 bits; its scale and zero point say what they stand for."""
    scale, zero_point = output["quantization"] if values.dtype.kind in "iu" else (1.0, 0)
    return ((values.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)
