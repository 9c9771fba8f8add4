"""`mobilenets models [NAME]`: published variants, our counts beside each source's figures, and why they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from mobilenets.cli.options import OptionalText, parse
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

    name: Positional[OptionalText] = None
    """Name of a network, or its beginning: mobilenet_v2, v3, v3_large; default: all."""
    json: bool = False
    """Print JSON instead of tables."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(ModelsOptions, argv, "models", ABOUT)
    import json
    import os

    from mobilenets.report.models import WIDE, sources_view, variants_view
    from mobilenets.workflows.models import published_models

    result = published_models(options.name)
    if options.json:
        print(json.dumps(result.to_dict()["variants"], indent=2))
        return 0
    screen = console()
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen = console(width=WIDE)
    screen.print(variants_view(result.variants, columns=screen.width))
    screen.print()
    screen.print(sources_view(result.variants), crop=False)  # addresses stay whole
    return 0
