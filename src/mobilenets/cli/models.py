"""`mobilenets models [FILTER]`: published variants, our counts beside each source's figures, and why they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from mobilenets.cli.options import parse
from mobilenets.cli.streams import console

ABOUT = """List every published MobileNet: parameters and multiply-adds counted here beside what each source prints,
with accuracy, latency and published weights; where a source's figure is not the network's, the way of counting that
gives it.

Example:
  mobilenets models v3_small
"""


@dataclass(frozen=True)
class ModelsOptions:
    """Options of `models`."""

    filter: Positional[str] = ""
    """Name of a network, or its beginning: mobilenet_v2, v3, v3_large. Without it, all."""
    json: bool = False
    """Print JSON instead of tables."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return models(parse(ModelsOptions, argv, "models", ABOUT))


def models(options: ModelsOptions) -> int:
    """Print the variants; returns the exit code 0.

    Raises:
        ModelError: no published network is named so.
    """
    import gc
    import json
    import os

    from mobilenets.catalogue.variants import published_variants
    from mobilenets.report.models import WIDE, sources_view, variants_view

    # PyTorch's import leaves 200,000 objects that live to the end: the garbage collector walking them over and over
    # would take a fifth of the command's time.
    gc.freeze()
    try:
        variants = published_variants(options.filter)
    finally:
        gc.unfreeze()
    if options.json:
        print(json.dumps([variant.to_dict() for variant in variants], indent=2))
        return 0
    screen = console()
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen = console(width=WIDE)
    screen.print(variants_view(variants, columns=screen.width))
    screen.print()
    screen.print(sources_view(variants), crop=False)  # addresses stay whole
    return 0
