"""Asking a translated network before it is anybody's file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mobilenets.artifact.container import SUFFIXES, Artifact
from mobilenets.artifact.description import Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.exporting.exported import Exported
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import Backend, open_backend


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
    with tempfile.TemporaryDirectory(prefix="mobilenets-") as folder:
        path = Path(folder)
        for name, content in exported.payload.items():
            (path / name).write_bytes(content)
        if kind != "openvino":
            (only,) = exported.payload
            path = (path / only).rename(path / f"model{SUFFIXES[kind]}")
        description = _provisional(exported, kind, precision, preprocessing, classes)
        yield open_backend(Artifact(path, description), threads=threads)


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
