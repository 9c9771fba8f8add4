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
from mobilenets.machine import lock_across_forks
from mobilenets.output_capture import capture_stderr
from mobilenets.runtime.loaded_file import LoadedFile, read_model, require_signature, unanswered

_ELEMENTS: Final = {0: "uint8", 6: "float32"}  # PyTorch's ScalarType numbers
_METHOD: Final = "forward"
_BINDINGS: Final = "executorch.extension.pybindings"


class _ThreadPool:
    """The one pool of threads all programs of the process share.

    A loaded method keeps a pointer to the pool it was loaded under; after the pool is replaced the method must be
    loaded anew. `generation` counts replacements, so that each method can tell. Whoever has `lock` has the pool to
    itself; that costs nothing, as ExecuTorch lets no other Python thread run while it computes.
    """

    def __init__(self) -> None:
        self.lock = lock_across_forks()
        self.generation = 0
        self._asked = False

    def require(self, threads: int) -> int:
        """Make the pool have so many threads and return its generation; only with `lock`."""
        library = _library()
        if not self._asked:
            with capture_stderr():  # it looks for the processor's name in files that not all systems have
                library._threadpool_get_thread_count()
            self._asked = True
        if library._threadpool_get_thread_count() != threads:
            self.generation += 1  # first: broken off in between, methods are loaded once too often, not too seldom
            with capture_stderr():
                library._unsafe_reset_threadpool(threads)
        return self.generation


_POOL: Final = _ThreadPool()


@dataclass
class _Loaded:
    """A program, the method of it that was loaded, and the generation of the pool at that time.

    ExecuTorch reads its program from `content`, of which it keeps no reference.
    """

    content: bytes
    program: Any
    method: Any
    generation: int


@dataclass(frozen=True)
class ExecuTorchBackend(LoadedFile):
    """A .pte file in ExecuTorch. `precision` is the file's own: ExecuTorch computes what is written there.

    Threads take turns. ExecuTorch's Python package holds Python's lock for as long as it computes, so that more
    methods would not make it faster.
    """

    most_images: int
    loaded: _Loaded
    name: str = "executorch"

    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(images), self.most_images)
        return np.concatenate([self._answer_few(images[start : start + self.most_images]) for start in starts])

    def _answer_few(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with _POOL.lock:
            generation = _POOL.require(self.threads)
            if generation != self.loaded.generation:
                self.loaded.method = _load_method(self.artifact, self.loaded.program)
                self.loaded.generation = generation
            try:
                (logits,) = self.loaded.method.call([torch.from_numpy(images)])
            except (RuntimeError, MemoryError) as error:
                raise unanswered(self.artifact, "ExecuTorch", len(images), first_line(error)) from error
            return np.array(logits.numpy(), dtype=np.float32)


def open_file(artifact: Artifact, threads: int, precision: str) -> ExecuTorchBackend:
    """Load a .pte file for CPU inference with a fixed number of threads.

    Raises:
        BackendError: this ExecuTorch can't run the file.
        ArtifactError: the file is not what its description says.
    """
    content = read_model(artifact)
    with _POOL.lock:
        generation = _POOL.require(threads)
        program = _load_program(artifact, content)
        method = _load_method(artifact, program)
    signature = method.method_meta()
    images = [signature.input_tensor_meta(index) for index in range(signature.num_inputs())]
    logits = [signature.output_tensor_meta(index) for index in range(signature.num_outputs())]
    inputs = [(_ELEMENTS.get(one.dtype(), f"type {one.dtype()}"), tuple(one.sizes())) for one in images]
    require_signature(artifact, inputs, [tuple(one.sizes()) for one in logits])
    most_images = images[0].sizes()[0]  # of a free dimension the shape says the most there may be
    return ExecuTorchBackend(artifact, threads, precision, most_images, _Loaded(content, program, method, generation))


@cache
def _library() -> ModuleType:
    """ExecuTorch's bindings.

    The compiled module itself: the documented ones, `executorch.runtime` and `portable_lib`, only name its parts anew,
    but load the exporter first, which takes ten times as long as everything else here.
    """
    try:
        return import_module(f"{_BINDINGS}._C")
    except ImportError:  # releases that call it otherwise, and Windows, where that module finds its libraries
        with capture_stderr(), warnings.catch_warnings():  # the exporter's dependencies warn
            warnings.simplefilter("ignore")
            return import_module(f"{_BINDINGS}.portable_lib")


def _load_program(artifact: Artifact, content: bytes) -> Any:
    library = _library()
    try:
        with capture_stderr():
            return library._load_program_from_buffer(
                content, program_verification=library.Verification.InternalConsistency
            )
    except RuntimeError as error:
        raise _refused(artifact, error) from error


def _load_method(artifact: Artifact, program: Any) -> Any:
    try:
        with capture_stderr():
            return program.load_method(_METHOD)
    except RuntimeError as error:
        raise _refused(artifact, error) from error


def _refused(artifact: Artifact, error: RuntimeError) -> BackendError:
    return BackendError(f"{artifact.path}: ExecuTorch can't run it: {first_line(error)}")
