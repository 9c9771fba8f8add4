"""The networks a comparison is between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mobilenets.comparison_folder import network_folder
from mobilenets.errors import ModelError
from mobilenets.models.registry import create_model


@dataclass(frozen=True)
class Candidate:
    """One network at one width and one input size; `label` names it in tables."""

    model: str
    width_mult: float
    image_size: int
    label: str

    @property
    def folder(self) -> str:
        """Its folder's name: the same whatever else it is compared with."""
        return network_folder(self.model, self.width_mult, self.image_size)

    def arguments(self, num_classes: int) -> dict[str, Any]:
        """Arguments of `create_model`."""
        return {
            "name": self.model,
            "num_classes": num_classes,
            "width_mult": self.width_mult,
            "image_size": self.image_size,
        }


def candidates(
    models: Sequence[str], width_mults: Sequence[float], image_sizes: Sequence[int]
) -> tuple[Candidate, ...]:
    """Every model at every width and size, each once; labels tell apart only what differs.

    Raises:
        ModelError: no model is named, or a name, width or size can't be built: before any training, not after an hour.
    """
    if not models:
        raise ModelError("no network to compare: name some with `models`, e.g. mobilenet_v2,mobilenet_v3_small")
    if not width_mults:
        raise ModelError("no width to compare at: give one or more with `width_mult`, e.g. 0.5,1.0")
    found = {}
    for model in models:
        for width in width_mults:
            for size in image_sizes:
                label = f"{model} x{width:g}" + (f" @{size}" if len(set(image_sizes)) > 1 else "")
                found[label] = Candidate(model, width, size, label)
                create_model(model, num_classes=2, width_mult=width, image_size=size)
    return tuple(found.values())
