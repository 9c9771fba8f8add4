"""Writing the file that is kept: the candidate's own content, with the settings it was found fastest with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from mobilenets.artifact.container import SUFFIXES, Artifact, read_artifact, read_payload, write_artifact
from mobilenets.artifact.description import Confidence, Settings
from mobilenets.deployment.results import Way
from mobilenets.errors import ArtifactError
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden

STEM = "model"


def keep(way: Way, out: Path, provenance: dict[str, str], confidence: Confidence | None = None) -> Artifact:
    """Write the kept way's file into `out` and check its golden pairs as its users' runtime will.

    A file that an earlier deployment kept there in another format is removed once the new one stands.

    Args:
        way: what was chosen.
        out: the deployment's folder.
        provenance: what to add to the file's own.
        confidence: what takes the place of the file's own; None leaves that.

    Raises:
        ArtifactError: the candidate is gone or damaged.
        RunError: the file can't be written.
    """
    candidate = read_artifact(Path(way.path))
    settings = Settings(way.backend, way.precision, way.threads)
    description = replace(
        candidate.description,
        settings=settings,
        confidence=confidence or candidate.description.confidence,
        provenance={**candidate.description.provenance, **provenance},
    )
    path = out / f"{STEM}{SUFFIXES[way.kind]}"
    write_artifact(path, read_payload(candidate), description)
    artifact = read_artifact(path)
    check_golden(artifact, open_backend(artifact))
    _remove_former(out, path)
    return artifact


def _remove_former(out: Path, kept: Path) -> None:
    for suffix in SUFFIXES.values():
        path = out / f"{STEM}{suffix}"
        if path == kept or not path.exists():
            continue
        try:
            former = read_artifact(path)
        except ArtifactError:
            continue  # not of our making: it stays
        if former.description.settings is None:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
