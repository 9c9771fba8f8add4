"""`mobilenets deploy`: the fastest file for this machine whose accuracy holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mobilenets.cli.options import Integers, Names, parse
from mobilenets.cli.streams import console
from mobilenets.images import MAX_PIXELS

ABOUT = """Export and quantize a trained network in every way installed, measure all, keep the fastest that holds.

OUT gets model.onnx (or .tflite, .pte, or OpenVINO's folder model), which 'mobilenets predict' runs with the settings it
was found fastest with; report.html, report.json and latency-accuracy.png, and the files it was chosen from. The
validation images held out in training decide; the test images are asked once, when the choice is made. Exits 1 when no
way is within --max-drop; a float file is then kept.

Example:
  mobilenets deploy runs/digits --data digits --max-drop 1.0 --out deployed
  mobilenets predict deployed/model.onnx photos/
"""


@dataclass(frozen=True)
class DeployOptions:
    """Options of `deploy`."""

    run: tyro.conf.Positional[str]
    """Run folder; with --model also a torchvision, timm or TFLite weight file, or imagenet."""
    data: str
    """Images, as for train; training images calibrate, validation images decide, test images are asked last."""
    out: Path
    """Folder to write into."""
    max_drop: float = 1.0
    """Points of top-1 that may be lost against the network in PyTorch."""
    targets: Names = ("onnx", "openvino", "litert", "executorch")
    """Formats to make; those not installed are listed with what to install."""
    against: Names = ("pytorch", "onnxruntime", "openvino")
    """What the kept file is compared with: PyTorch eager, and the two runtimes with their defaults."""
    seconds: float = 1.0
    """Measured time of each way; waits in between take about as long again."""
    int8: bool = True
    """Whether 8-bit files are made, too, which takes the longest."""
    finetune: bool = True
    """Whether training the network a little more may be the last way to 8 bits that is tried."""
    model: str | None = None
    """The network a weight file is of, e.g. mobilenet_v2."""
    width_mult: float = 1.0
    """Width multiplier of a weight file's network."""
    image_size: int | None = None
    """Input size in pixels for a weight file's network; default: the file's own, or 224."""
    max_images: int | None = None
    """Score on so many images of each split at most; default: all."""
    calibration_images: int = 320
    """Training images to find the ranges of 8-bit files on."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it, beside those left out in training."""
    skip_bad: bool = False
    """Leave unreadable images out, and list them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    threads: Integers | None = None
    """Numbers of threads to try; default: 1 and one for every core."""
    seed: int = 0
    """Draws the calibration images; cuts the test images in halves where there are no validation images."""
    json: bool = False
    """Print the report as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb; 1 when nothing holds the accuracy."""
    options = parse(DeployOptions, argv, "deploy", ABOUT)
    import json

    from mobilenets.arguments import command_line
    from mobilenets.cli.progress import Live
    from mobilenets.report.deploy import deploy_text
    from mobilenets.workflows.deploy import deploy

    arguments = {name: value for name, value in vars(options).items() if name != "json"}
    with Live(console(stderr=True)) as live, command_line("deploy", argv):
        report = deploy(**arguments, progress=live)
    if options.json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        console().print(deploy_text(report))
    return 0 if report.decision.holds else 1
