"""`models`: every published MobileNet with our counts beside each source's figures; `published_models` in Python.

`mobilenets.models` is the package of the networks, so the function can't be named as the command is: a package takes
the place of a function of its name as soon as anything imports it.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobilenets.catalogue.variants import TableVariant, published_variants
from mobilenets.formatting import plural
from mobilenets.progress import Progress
from mobilenets.result import Result


@dataclass(frozen=True, repr=False)
class PublishedModels(Result):
    """Published networks at the widths and image sizes that sources print figures of."""

    variants: tuple[TableVariant, ...]

    def to_dict(self) -> dict[str, Any]:
        """`variants`, the list that `--json` prints."""
        return {"variants": [variant.to_dict() for variant in self.variants]}

    def _headline(self) -> str:
        networks = {variant.network for variant in self.variants}
        weights = sum(variant.weights is not None for variant in self.variants)
        return f"{plural(len(self.variants), 'variant')} of {plural(len(networks), 'network')}, {weights} with weights"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "network": variant.name or variant.network,
                "width_mult": variant.width_mult,
                "image_size": variant.image_size,
                "num_classes": variant.num_classes,
                "parameters": variant.parameters,
                "macs": variant.macs,
                "top1": next((one.row.top1 for one in variant.publications if one.row.top1), ""),
                "weights": variant.weights.file if variant.weights else "",
            }
            for variant in self.variants
        ]


def published_models(name: str | None = None, *, progress: Progress | None = None) -> PublishedModels:
    """List every published MobileNet: parameters and multiply-adds counted here beside what each source prints.

    `list_models` lists the names that `create_model` takes.

    Args:
        name: a network's name or the beginning of one, with or without `mobilenet_`: `mobilenet_v2`, `v3`,
            `v3_large`; None lists all.
        progress: unused, since nothing here takes long; every verb takes one.

    Raises:
        ModelError: no published network's name begins so; the message lists those there are.
    """
    # PyTorch's import leaves 200,000 objects that live to the end: the garbage collector walking them over and over
    # would take a fifth of the time.
    gc.freeze()
    try:
        return PublishedModels(published_variants(name or ""))
    finally:
        gc.unfreeze()
