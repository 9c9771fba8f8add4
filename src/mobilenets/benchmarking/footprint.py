"""Peak memory of answering one image, measured in a fresh process; no PyTorch here.

A process of its own, because memory once used is rarely given back: whatever ran before (training, another network)
would be counted too.
"""

from __future__ import annotations

from pathlib import Path

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking.candidate import Candidate
from mobilenets.benchmarking.process import Worker
from mobilenets.errors import ArtifactError, BackendError, ExportError
from mobilenets.runtime.backend import choices


def peak_memory_mb(
    path: str | Path, threads: int = 1, *, backend: str | None = None, precision: str | None = None
) -> float:
    """Peak resident memory (MiB) of a fresh Python process that answers one image from an exported file.

    Python, NumPy and the runtime are in it (their part is the same for every network): it is what a device needs.

    Args:
        path: an artifact.
        threads: threads one answer may use.
        backend: the runtime; None takes the file's first choice here.
        precision: arithmetic; None takes that choice's.

    Raises:
        BackendError: an impossible number of threads.
        ExportError: the file is missing, damaged or no artifact, or the process failed, with its last line.
    """
    check_threads(threads)
    path = Path(path)
    try:
        able = choices(read_artifact(path))
        chosen = next((one for one in able if backend in (None, one.backend)), None)
        runtime = backend or (chosen.backend if chosen else "onnxruntime")
        arithmetic = precision or (chosen.precision if chosen else "")
        with Worker(Candidate(str(path), "artifact", str(path), runtime, arithmetic, threads)) as worker:
            return worker.peak_memory_mb
    except (ArtifactError, BackendError) as error:
        raise ExportError(f"the memory {path} needs can't be measured: {error}") from error
