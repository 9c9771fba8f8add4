"""The description an exported file gets: what it was made of, what it answers, and what wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mobilenets.artifact.description import Confidence, Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.exporters.parity import allowed_difference
from mobilenets.exporters.prepare import Exported
from mobilenets.image_record import ImageRecord
from mobilenets.models.network import MobileNet
from mobilenets.models.saved import versions
from mobilenets.preprocessing import Preprocessing


@dataclass(frozen=True)
class Subject:
    """What is exported: a network with its class names in output order, its preprocessing and where it came from.

    `images` says which images it was trained on, where that is known.
    """

    model: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, str]
    images: ImageRecord | None = None


def golden_pairs(
    images: NDArray[np.uint8],
    logits: NDArray[np.float32],
    precision: str,
    bounds: Mapping[str, float] | None = None,
) -> GoldenPairs:
    """Images with their answers, and how far another machine's may lie from them.

    Args:
        images: uint8 `[N, H, W, C]`.
        logits: float32 `[N, K]`, as the file answered.
        precision: of the file; it decides the tolerance.
        bounds: as `exporting.bounds.measure_bounds` found them.
    """
    return GoldenPairs(images, logits, allowed_difference(precision, logits), bounds or {})


def describe(
    subject: Subject,
    kind: str,
    precision: str,
    exported: Exported,
    golden: GoldenPairs,
    *,
    confidence: Confidence | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Description:
    """The description of an exported network; provenance is the subject's own, what is given, and versions here."""
    model = subject.model
    network: dict[str, Any] = (
        model.config.to_dict() if isinstance(model, MobileNet) else {"name": type(model).__qualname__}
    )
    # The run's own versions are of who trained it: kept apart from those of who exported it.
    trained = {f"trained_with_{key}" if key in versions() else key: value for key, value in subject.provenance.items()}
    return Description(
        kind=kind,
        precision=precision,
        network=network,
        classes=subject.classes,
        preprocessing=subject.preprocessing,
        dynamic_batch=exported.dynamic_batch,
        golden=golden,
        confidence=confidence,
        images=subject.images,
        provenance={**trained, **versions(), **(provenance or {})},
    )
