"""`mobilenets summary MODEL`: every layer's shape and cost, totals, peak memory, and what separability saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from mobilenets.cli.options import parse
from mobilenets.cli.streams import say

ABOUT = """Show every layer's output shape, parameters, multiply-adds and activation memory; totals; peak activation
memory; and what the same network costs with standard instead of separable convolutions.

Example:
  mobilenets summary mobilenet_v2 --image-size 32 --num-classes 10
"""


@dataclass(frozen=True)
class SummaryOptions:
    """Options of `summary`."""

    model: Positional[str]
    """Name of the network, e.g. mobilenet_v2."""
    width_mult: float = 1.0
    """Factor on every layer's channels."""
    image_size: int = 224
    """Side of the square images in pixels; small ones keep fewer stride-2 steps."""
    num_classes: int = 1000
    """Outputs of the classifier."""
    in_channels: int = 3
    """Channels of the images: 3 for RGB, 1 for grey."""
    dropout: float | None = None
    """Dropout rate before the classifier; by default that of the paper's code."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return summary(parse(SummaryOptions, argv, "summary", ABOUT))


def summary(options: SummaryOptions) -> int:
    """Print the summary; returns the exit code 0.

    Raises:
        ModelError: the network does not exist or can't be built so.
    """
    import json

    import torch

    from mobilenets.auditing.count import count
    from mobilenets.models.registry import create_model
    from mobilenets.report.summary import summary_text

    with torch.device("meta"):  # shapes only: no memory, no time spent on weights
        model = create_model(
            options.model,
            num_classes=options.num_classes,
            width_mult=options.width_mult,
            image_size=options.image_size,
            dropout=options.dropout,
            in_channels=options.in_channels,
        )
    result = count(model)
    if options.json:
        print(json.dumps({"model": model.config.to_dict(), **result.to_dict()}, indent=2))
    else:
        config = model.config
        title = f"{config.name}, width {config.width_mult:g}, {config.num_classes:,} classes"
        say(summary_text(result, title))
    return 0
