"""`mobilenets quantize`: an 8-bit file that keeps the accuracy, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from mobilenets.cli.options import parse
from mobilenets.cli.streams import console
from mobilenets.images import MAX_PIXELS

WIDTH_OF_A_FILE = 120  # columns: every column fits into a file or a CI log

ABOUT = """Quantize a trained network to 8 bits within a given drop of top-1, by the first way that keeps it.

Tried in turn for .onnx: plain, bias correction, other ranges, asymmetric activations, no rounding before h-swish, a
scale for each channel of depthwise inputs, sensitive layers in float, fine-tuning. For .tflite: plain, percentile
ranges, least-error ranges, clipped weights, sensitive layers in float, fine-tuning; no bias correction. The validation
images held out in training decide, the test images are asked once, of the file chosen. Without validation images, one
half of the test images decides and the other shows the drop. Exits 1 when no way is good enough; the float file is then
written beside FILE instead, and what an earlier call left as FILE is removed.

Example:
  mobilenets quantize runs/digits --data digits --max-drop 1.0 --out digits-int8.onnx
"""


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `quantize`."""

    run: tyro.conf.Positional[str]
    """Run folder; with --model also a torchvision, timm or TFLite weight file, or imagenet."""
    data: str
    """Images, as for train; training images calibrate, validation images select, test images are asked last."""
    out: Path
    """File to write: .onnx or .tflite."""
    to: Literal["onnx", "litert"] | None = None
    """Format; default: the one the suffix of --out names."""
    max_drop: float = 1.0
    """Points of top-1 it may lose against float."""
    finetune: bool = True
    """Whether training the network a little more may be the last way tried."""
    tensorrt: bool = False
    """Only ways TensorRT takes: symmetric int8 throughout; for .onnx files."""
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """Whose integer kernels an ONNX file with h-swish is written for; both run it."""
    model: str | None = None
    """The network a weight file is of, e.g. mobilenet_v2."""
    width_mult: float = 1.0
    """Width multiplier of a weight file's network."""
    image_size: int | None = None
    """Input size in pixels for a weight file's network; default: the file's own, or 224."""
    max_images: int | None = None
    """Score, and test, on so many images at most; default: all."""
    calibration_images: int = 320
    """Training images to find the ranges of activations on."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it, beside those left out in training."""
    skip_bad: bool = False
    """Leave unreadable images out instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    threads: int | None = None
    """Threads of the runtimes that score; times are of one thread; default: every core this process may use."""
    seed: int = 0
    """Draws the calibration images; cuts the test images in halves where there are no validation images."""
    json: bool = False
    """Print the report as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(QuantizeOptions, argv, "quantize", ABOUT)
    import json
    import sys

    from mobilenets.cli.progress import Live
    from mobilenets.report.quantize import conclusion, rung_table, runtime_table
    from mobilenets.workflows.quantize import quantize

    arguments = {name: value for name, value in vars(options).items() if name != "json"}
    with Live(console(stderr=True)) as live:
        report = quantize(**arguments, progress=live)
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        screen = console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
        screen.print(rung_table(report))
        screen.print(runtime_table(report))
        for sentence in conclusion(report):
            screen.print(sentence, soft_wrap=True)
    report.raise_if_refused()
    return 0
