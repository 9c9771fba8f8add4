"""`mobilenets compare`: the main job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenets.cli.options import Floats, Integers, Names, arguments_of, parse
from mobilenets.cli.streams import console
from mobilenets.formatting import printable
from mobilenets.images import MAX_PIXELS

WIDTH_OF_A_FILE = 160  # columns: a file or a CI log has space for every column

ABOUT = """Train networks on the same images by one recipe, measure them in the same way, and recommend one.

The choice goes by validation images, cut from the training images; the test images are read once, after it.

Its folder then stands for the recommended network: 'mobilenets deploy OUT', evaluate, export, quantize and predict.

The same command again continues a comparison that was stopped, and takes up added networks or seeds.

Example:
  mobilenets compare --data photos.zip --models mobilenet_v2,mobilenet_v3_small --epochs 20 --max-latency-ms 5
"""


@dataclass(frozen=True)
class CompareOptions:
    """Options of `compare`."""

    data: str = "digits"
    """digits, cifar10, or a folder or zip: a folder a class, within train/ and test/ (or val/) or just so."""
    out: Path | None = None
    """Folder of the report and the trained networks; default: comparison-DATA here."""
    models: Names = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
    """Networks to compare, with commas between."""
    recipe: str = "article"
    """How to train: article, quick, strong, paper-v1 ... paper-v4, or a TOML file."""
    epochs: int | None = None
    """Epochs instead of the recipe's."""
    validation_fraction: float | None = None
    """Share of the training images to choose by, instead of the recipe's; the papers' keep none."""
    seeds: int = 1
    """Times each network is trained, with seeds 0, 1, ...; the intervals then cover training."""
    max_latency_ms: float | None = None
    """Bound on the median latency of the exported file (ONNX Runtime, batch 1, one thread)."""
    max_params: int | None = None
    """Bound on parameters."""
    min_top1: float | None = None
    """Bound on accuracy in percent, on the validation images."""
    width_mult: Floats = (1.0,)
    """Width multipliers; every network is built at each."""
    image_size: Integers | None = None
    """Input sizes in pixels; default: what suits the images."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    device: str | None = None
    """cpu, cuda or mps; default: the best there is."""
    json: bool = False
    """Print the result as JSON on standard output instead of the table."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(CompareOptions, argv, "compare", ABOUT)
    from mobilenets.arguments import command_line
    from mobilenets.cli.progress import Live
    from mobilenets.report.compare import comparison_table, to_json, verdict_lines
    from mobilenets.report.scores import split_sentence
    from mobilenets.workflows.compare import compare

    out = options.out or Path(f"comparison-{Path(options.data).stem or 'data'}")
    with Live(console(stderr=True)) as live, command_line("compare", argv):
        result = compare(**arguments_of(options), progress=live)
    if options.json:
        print(to_json(result))
    else:
        screen = console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
        screen.print(comparison_table(result, width=screen.width))
        screen.print(f"Recommended: {result.choice.label or 'none'}. {result.choice.reason}")
        for line in verdict_lines(result):
            screen.print(f"  {line}")
        screen.print(split_sentence(result))
        screen.print(f"Report: {out / 'report.html'}", soft_wrap=True)
        if result.choice.label is not None:
            following = ["mobilenets", "deploy", str(out), "--data", options.data, "--out", "deployed"]
            screen.print(f"Next: {printable(shlex.join(following))}", soft_wrap=True)
    return 1 if result.notes else 0
