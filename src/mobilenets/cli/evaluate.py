"""`mobilenets evaluate`: score a trained network or an exported file on images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from mobilenets.cli.options import arguments_of, parse
from mobilenets.cli.streams import console
from mobilenets.images import MAX_PIXELS

ABOUT = """Score a trained network, or a file exported from one, on images: top-1, top-5, every class, calibration.

Choose by --split validation; a run folder remembers each time that its test images were read. Images the network was
trained on are left out, and counted. A folder of its own is scored by --split all; its class folders are matched by
name. An exported file is scored in its runtime, as it will run on a device.

Example:
  mobilenets evaluate runs/digits --data digits --split validation
  mobilenets evaluate runs/photos --data new-photos --split all --mistakes wrong.csv
  mobilenets evaluate digits.onnx --data digits --backend openvino --threads 1
"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    run_or_artifact: tyro.conf.Positional[Path]
    """Run folder, as `mobilenets train` leaves it, an artifact, as `mobilenets export` writes it, or a comparison's
    folder for the network it recommends."""
    data: str = "digits"
    """Images, as for train; their classes are matched by name, and some may be missing."""
    split: Literal["test", "validation", "train", "all"] = "test"
    """Which images, none of them augmented; those of validation are found again as training left them out; all are
    those of every split that the network has not seen."""
    mistakes: Path | None = None
    """File (.csv or .json) for the images misclassified, with truth, answer and probability."""
    flip_test: bool = False
    """Average the answers to each image and its mirror image, at twice the cost; on a device nothing does so itself."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it, beside those left out in training."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    device: str | None = None
    """Of a run: cpu, cuda or mps; default: the best there is."""
    backend: str | None = None
    """Of an artifact: onnxruntime, openvino, litert or executorch; default: what the file prefers."""
    precision: str | None = None
    """Of an artifact: arithmetic to compute in, e.g. fp32 or bf16; default: the file's own."""
    threads: int | None = None
    """Of an artifact: threads of the runtime; default: every core this process may use."""
    json: bool = False
    """Print the scores as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(EvaluateOptions, argv, "evaluate", ABOUT)
    from mobilenets.cli.progress import Live
    from mobilenets.workflows.evaluate import evaluate

    with Live(console(stderr=True)) as live:
        found = evaluate(**arguments_of(options), progress=live)
    if options.json:
        print(json.dumps(found.to_dict()))
    else:
        from mobilenets.report.evaluate import evaluation_text

        console().print(evaluation_text(found))
    return 0
