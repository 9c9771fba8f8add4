"""Opening an artifact in a runtime that is installed here; no PyTorch.

A backend is one runtime with one file loaded. All take images uint8 `[B, H, W, C]` and return logits float32
`[B, K]`, so callers need not know which it is. Its package is imported only when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import Artifact
from mobilenets.artifact.description import RuntimeSettings
from mobilenets.errors import BackendError, MissingExtraError
from mobilenets.install import install_line
from mobilenets.machine import usable_cores


class Backend(Protocol):
    """A file loaded in a runtime. Safe to ask from several threads at once."""

    @property
    def artifact(self) -> Artifact:
        """The file."""

    @property
    def name(self) -> str:
        """The runtime: `onnxruntime`, `openvino`, `litert` or `executorch`."""

    @property
    def threads(self) -> int:
        """Threads one answer may use."""

    @property
    def precision(self) -> str:
        """Arithmetic it computes in: `fp32`, `bf16`, `fp16` or `int8`."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer images uint8 `[B, H, W, C]` with logits float32 `[B, K]`.

        Raises:
            DataError: images of another type or size than the file takes.
        """


@dataclass(frozen=True)
class RuntimeOption:
    """One way to run a file: a backend and the arithmetic it computes in."""

    backend: str
    precision: str


@dataclass(frozen=True)
class _Runtime:
    """The package a runtime needs and the kinds of files it runs."""

    package: str
    kinds: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


# In the order they are preferred for a kind of file when nothing else is said: the core install's own comes first. Of
# the others each name is also that of the extra which brings it.
_RUNTIMES: Final = {
    "onnxruntime": _Runtime("onnxruntime", ("onnx",)),
    "openvino": _Runtime("openvino", ("openvino", "onnx")),
    "litert": _Runtime("ai_edge_litert", ("litert",)),
    "executorch": _Runtime("executorch", ("executorch",)),
}
_CORE: Final = "onnxruntime"
BACKENDS: Final = tuple(_RUNTIMES)


def choices(artifact: Artifact) -> tuple[RuntimeOption, ...]:
    """Every way to run a file with what is installed here, the default backend's first.

    An 8-bit file is computed in 8 bits wherever it runs, the others in fp32, also where their weights are stored in
    fp16; OpenVINO also computes them in bf16 and fp16 where this processor does.
    """
    return tuple(
        RuntimeOption(name, precision)
        for name, runtime in _RUNTIMES.items()
        if artifact.description.kind in runtime.kinds and runtime.installed
        for precision in _precisions(name, artifact)
    )


def open_backend(
    artifact: Artifact, *, backend: str | None = None, threads: int | None = None, precision: str | None = None
) -> Backend:
    """Load a file in a runtime.

    Args:
        artifact: what `read_artifact` returned.
        backend: one of `BACKENDS`; None takes the one the file's own settings name, found by measuring, where it is
            installed, else the first installed one that runs this kind of file.
        threads: threads one answer may use; None takes those of the settings if they are followed and this machine has
            so many, else every core this process may run on. A fixed number always, since the runtimes' own choices
            ignore the limits of containers.
        precision: arithmetic to compute in, one that `choices` lists; None takes that of the settings if they are
            followed, else the file's own where the backend computes in it, else fp32.

    Raises:
        BackendError: no such backend, it does not run such files or not in this precision, an impossible number of
            threads, or the runtime refuses the file.
        MissingExtraError: the backend's package is not installed; the message names the extra.
    """
    check_threads(threads)
    settings = _settings_to_follow(artifact, backend, precision)
    name = settings.backend if settings else backend or _default(artifact)
    _require(name, artifact)
    arithmetic = settings.precision if settings else _precision(name, artifact, precision)
    if threads is None:
        threads = min(settings.threads, usable_cores()) if settings else usable_cores()
    module = import_module(f"mobilenets.runtime.{name}_backend")
    opener = cast(Callable[[Artifact, int, str], Backend], module.open_file)
    return opener(artifact, threads, arithmetic)


def _settings_to_follow(artifact: Artifact, backend: str | None, precision: str | None) -> RuntimeSettings | None:
    """The file's own settings, where the caller asks for nothing else and this machine can follow them."""
    settings = artifact.description.settings
    if settings is None or backend not in (None, settings.backend) or precision not in (None, settings.precision):
        return None
    runtime = _RUNTIMES.get(settings.backend)
    if runtime is None or artifact.description.kind not in runtime.kinds or not runtime.installed:
        return None
    return settings if settings.precision in _precisions(settings.backend, artifact) else None


def _default(artifact: Artifact) -> str:
    kind = artifact.description.kind
    able = [name for name, runtime in _RUNTIMES.items() if kind in runtime.kinds]
    return next((name for name in able if _RUNTIMES[name].installed), able[0])


def _require(name: str, artifact: Artifact) -> None:
    kind = artifact.description.kind
    able = [known for known, runtime in _RUNTIMES.items() if kind in runtime.kinds]
    runtime = _RUNTIMES.get(name)
    if runtime is None:
        raise BackendError(f"{artifact.path}: no backend {name}; {kind} files run in {' and '.join(able)}")
    if name not in able:
        raise BackendError(f"{artifact.path}: {name} does not run {kind} files; {' and '.join(able)} can")
    if not runtime.installed:
        install = install_line("" if name == _CORE else name)
        raise MissingExtraError(f"{artifact.path}: {name} is not installed: {install}")


def _precision(name: str, artifact: Artifact, asked: str | None) -> str:
    able = _precisions(name, artifact)
    if asked is None:
        own = artifact.description.precision
        return own if own in able else able[0]
    if asked not in able:
        raise BackendError(f"{artifact.path}: {name} does not run it in {asked} here; it can in {', '.join(able)}")
    return asked


def _precisions(name: str, artifact: Artifact) -> tuple[str, ...]:
    own = artifact.description.precision
    if name == "openvino" and own != "int8":
        from mobilenets.runtime.openvino_backend import float_precisions  # imports OpenVINO

        return float_precisions()
    # Weights stored in fp16 are widened by the file itself, with a Cast or DEQUANTIZE, before anything is computed.
    return ("fp32",) if own == "fp16" else (own,)
