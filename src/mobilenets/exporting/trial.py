"""Asking a translated network, and the file it is written as, before that is anybody's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mobilenets.artifact.container import SUFFIXES, Artifact, read_artifact, write_artifact
from mobilenets.artifact.description import Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import RunError
from mobilenets.exporting.exported import Exported
from mobilenets.files import make_folder, unharmed
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import Backend, open_backend
from mobilenets.runtime.classifier import check_golden


@contextmanager
def opened(
    exported: Exported,
    kind: str,
    *,
    precision: str,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    threads: int | None = None,
) -> Iterator[Backend]:
    """Open a translated network in its runtime, from a temporary place that goes when the context ends.

    Args:
        exported: the translated network.
        kind: its format, one of `artifact.description.KINDS`.
        precision: what it was exported as.
        preprocessing: fixes the images' shape.
        classes: as many as it has outputs.
        threads: for the runtime; None for every usable core.

    Raises:
        BackendError: its runtime can't open it.
        MissingExtraError: its runtime is not installed.
    """
    with placed(exported, kind, precision=precision, preprocessing=preprocessing, classes=classes) as artifact:
        yield open_backend(artifact, threads=threads)


@contextmanager
def placed(
    exported: Exported, kind: str, *, precision: str, preprocessing: Preprocessing, classes: Sequence[str]
) -> Iterator[Artifact]:
    """Put a translated network in a temporary place, for runtimes to open; arguments as `opened` has them."""
    with tempfile.TemporaryDirectory(prefix="mobilenets-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        for name, content in exported.payload.items():
            (path / name).write_bytes(content)
        if kind != "openvino":
            (only,) = exported.payload
            path = (path / only).rename(path / f"model{SUFFIXES[kind]}")
        description = _provisional(exported, kind, precision, preprocessing, classes)
        yield Artifact(path, description)


def write_proven(
    path: Path, payload: Mapping[str, bytes], description: Description, threads: int | None = None
) -> tuple[Artifact, float]:
    """Write an artifact once the same, written beside `path` and opened again, has given its golden answers.

    Args:
        path: the file, or OpenVINO's folder; on any failure what is there is as it was, but a folder that can't be
            written whole may be left with old files and new ones, which is refused when read.
        payload: the format's own files by name, as `write_artifact` takes them.
        description: with the golden answers.
        threads: for the runtime; None as `open_backend` has it.

    Returns:
        The artifact, and the largest difference of a golden answer.

    Raises:
        ArtifactError: it does not give its golden answers.
        BackendError: its runtime can't open it.
        RunError: it can't be written.
    """
    make_folder(path.parent)
    try:
        beside = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise RunError(f"{path}: can't be written ({error.strerror or error}){unharmed(path)}") from error
    with beside as folder:
        written = read_artifact(write_artifact(Path(folder) / path.name, payload, description).path)
        difference = check_golden(written, open_backend(written, threads=threads))
    write_artifact(path, payload, description)
    return read_artifact(path), difference


def _provisional(
    exported: Exported, kind: str, precision: str, preprocessing: Preprocessing, classes: Sequence[str]
) -> Description:
    """What a runtime needs to know of the file. Its golden answers are still to be asked for: these are no answers."""
    size, channels = preprocessing.image_size, preprocessing.channels
    unanswered = GoldenPairs(
        np.zeros((1, size, size, channels), np.uint8), np.zeros((1, len(classes)), np.float32), tolerance=1.0
    )
    return Description(
        kind=kind,
        precision=precision,
        network={},
        classes=tuple(classes),
        preprocessing=preprocessing,
        dynamic_batch=exported.dynamic_batch,
        golden=unanswered,
    )
