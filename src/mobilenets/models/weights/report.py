"""`LoadedWeights`: what was loaded into a network, and what its user should know of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mobilenets.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedWeights:
    """Where a network's starting weights came from.

    Attributes:
        path: the file they were read from.
        sha256: that file's digest, in hexadecimal.
        origin: whose they are: `torchvision`, `timm`, `TensorFlow Lite`, `run folder`.
        preprocessing: how images must be prepared for them, with the channels of the network; None when unknown.
        classes: names of the network's outputs, in order; None when unknown or when the classifier is a fresh one.
        fresh_classifier: whether the classifier is a fresh one, the file's being for another number of classes.
        notes: what was done that the file alone does not show, a sentence each: a classifier left fresh, ...
    """

    path: Path
    sha256: str
    origin: str
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    fresh_classifier: bool
    notes: tuple[str, ...]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; raises OSError when it can't be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
