"""`mobilenets summary TARGET`: every layer's shape and cost, totals, peak memory, and what separability saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from mobilenets.cli.options import OptionalInteger, OptionalNumber, OptionalText, arguments_of, keyword_arguments, parse
from mobilenets.cli.streams import say, warn
from mobilenets.formatting import printable

ABOUT = """Show every layer's output shape, parameters, multiply-adds and activation memory; totals; peak activation
memory; and what the same network costs with standard instead of separable convolutions.

TARGET is the name of a network, or what audit takes: package.module:Factory, path/file.py:Class, an ONNX or TensorFlow
Lite file, or a run folder. Code that it names is run; --no-run refuses that.

Example:
  mobilenets summary mobilenet_v2 --image-size 32 --num-classes 10
  mobilenets summary torchvision.models:mobilenet_v2
"""


@dataclass(frozen=True)
class SummaryOptions:
    """Options of `summary`."""

    target: Positional[str]
    """What to count, e.g. mobilenet_v2, runs/photos or model.onnx."""
    width_mult: float = 1.0
    """Factor on every layer's channels, of a network named."""
    image_size: OptionalInteger = None
    """Side of the square images in pixels; small ones keep fewer stride-2 steps; default: the target's own, or 224."""
    num_classes: int = 1000
    """Outputs of the classifier, of a network named."""
    in_channels: int = 3
    """Channels of the images, of a network named: 3 for RGB, 1 for grey."""
    dropout: OptionalNumber = None
    """Dropout rate before the classifier, of a network named; default: that of the paper's code."""
    args: OptionalText = None
    """Keyword arguments of the factory as a JSON object."""
    run: bool = True
    """Run the code a target names; --no-run takes names of networks, files and run folders only."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(SummaryOptions, argv, "summary", ABOUT)
    arguments = {**arguments_of(options), "args": keyword_arguments(options.args)}
    import json

    from mobilenets.report.summary import summary_text
    from mobilenets.workflows.summary import summary, will_run_code

    if options.run and will_run_code(options.target):
        warn(f"mobilenets: counting {printable(options.target)} runs its code")
    result = summary(**arguments)
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        say(summary_text(result.count, result.title, result.notes))
    return 0
