"""ExecuTorch on the CPU. The runtime itself needs no PyTorch, but its Python package does: it takes torch tensors.

On a phone the same `.pte` file runs in ExecuTorch's C++ library, without either.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import BackendError, first_line
from mobilenets.runtime.silence import silent_stderr
from mobilenets.runtime.tensors import one_by_one, require_images, require_signature

_ELEMENTS: Final = {0: "uint8", 6: "float32"}  # PyTorch's ScalarType numbers
_METHOD: Final = "forward"
_BINDINGS: Final = "executorch.extension.pybindings"


class _ThreadPool:
    """The one pool of threads all programs of the process share.

    A loaded method keeps a pointer to the pool it was loaded under; after the pool is replaced the method must be
    loaded anew. `generation` counts replacements, so that each method can tell.
    """

    def __init__(self) -> None:
        self.generation = 0

    def require(self, threads: int) -> int:
        """Make the pool have so many threads and return its generation."""
        library = _library()
        with silent_stderr():
            if library._threadpool_get_thread_count() != threads:
                library._unsafe_reset_threadpool(threads)
                self.generation += 1
        return self.generation


_POOL: Final = _ThreadPool()


@dataclass
class _Loaded:
    """A method of ExecuTorch's, with the generation of the pool it was loaded under."""

    method: Any
    generation: int


@dataclass(frozen=True)
class ExecuTorchBackend:
    """A .pte file in ExecuTorch. `precision` is the file's own: ExecuTorch computes what is written there.

    Not to be asked from several Python threads at once with different `threads`: the pool is the process's.
    """

    artifact: Artifact
    threads: int
    precision: str
    most_images: int
    loaded: _Loaded
    name: str = "executorch"

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer images uint8 `[B, H, W, C]` with logits float32 `[B, K]`, `most_images` at a time.

        Raises:
            DataError: images of another type or size than the file takes.
            BackendError: ExecuTorch fails to compute it.
        """
        images = require_images(images, self.artifact)
        if not self.artifact.description.dynamic_batch:
            return one_by_one(images, self._answer)
        starts = range(0, len(images), self.most_images)
        return np.concatenate([self._answer(images[start : start + self.most_images]) for start in starts])

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        generation = _POOL.require(self.threads)
        if generation != self.loaded.generation:
            self.loaded.method, self.loaded.generation = _load(self.artifact), generation
        try:
            (logits,) = self.loaded.method.call([torch.from_numpy(images)])
        except RuntimeError as error:
            raise BackendError(f"{self.artifact.path}: ExecuTorch can't answer: {first_line(error)}") from error
        return np.array(logits.numpy(), dtype=np.float32)


def open_file(artifact: Artifact, threads: int, precision: str) -> ExecuTorchBackend:
    """Load a .pte file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this ExecuTorch can't run the file.
        ArtifactError: the file is not what its description says.
    """
    generation = _POOL.require(threads)
    method = _load(artifact)
    signature = method.method_meta()
    images = [signature.input_tensor_meta(index) for index in range(signature.num_inputs())]
    logits = [signature.output_tensor_meta(index) for index in range(signature.num_outputs())]
    inputs = [(_ELEMENTS.get(one.dtype(), f"type {one.dtype()}"), tuple(one.sizes())) for one in images]
    require_signature(artifact, inputs, [tuple(one.sizes()) for one in logits])
    most_images = images[0].sizes()[0]  # of a free dimension the shape says the most there may be
    return ExecuTorchBackend(artifact, threads, precision, most_images, _Loaded(method, generation))


@cache
def _library() -> ModuleType:
    """ExecuTorch's bindings.

    The compiled module itself: the documented ones, `executorch.runtime` and `portable_lib`, only name its parts anew,
    but load the exporter first, which takes ten times as long as everything else here.
    """
    try:
        return import_module(f"{_BINDINGS}._C")
    except ImportError:  # releases that call it otherwise, and Windows, where that module finds its libraries
        with silent_stderr(), warnings.catch_warnings():  # the exporter's dependencies have remarks to make
            warnings.simplefilter("ignore")
            return import_module(f"{_BINDINGS}.portable_lib")


def _load(artifact: Artifact) -> Any:
    library = _library()
    try:
        with silent_stderr():
            program = library._load_program(
                str(artifact.model_path), program_verification=library.Verification.InternalConsistency
            )
            return program.load_method(_METHOD)
    except RuntimeError as error:
        raise BackendError(f"{artifact.path}: ExecuTorch can't run it: {first_line(error)}") from error
