"""`mobilenets export`: one file from one trained network, verified before it is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mobilenets.cli.options import parse
from mobilenets.cli.streams import console, say
from mobilenets.images import MAX_PIXELS

ABOUT = """Write a trained network as one file that runs without PyTorch; verify that it answers as the network does.

Class names, preprocessing and golden answers travel inside. Exits 1 when the file's answers differ; it is then kept as
FILE with .rejected in its name, whatever was at FILE is unharmed, and the first layer that differs is named.

For NVIDIA's TensorRT take the onnx file (opset 18, any batch): it keeps TensorRT's written rules; it was not run there.

Example:
  mobilenets export runs/digits --to onnx --out digits.onnx --data digits
  mobilenets export mobilenet_v2_1.0_224_quant.tflite --model mobilenet_v2 --to openvino --out v2-openvino
"""


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    run: tyro.conf.Positional[str]
    """Run folder; with --model also a torchvision, timm or TFLite weight file, or imagenet."""
    out: Path
    """File to write (.onnx, .tflite, .pte); OpenVINO's is a folder."""
    to: str
    """Format: onnx, openvino, litert or executorch."""
    data: str | None = None
    """Images, as for train: validation images calibrate, test images verify; default: synthetic images."""
    min_confidence_accuracy: float = 0.5
    """With --data: how likely correct an answer must be to be given, 0 to below 1; below that it is "unknown"."""
    model: str | None = None
    """The network a weight file is of, e.g. mobilenet_v2."""
    width_mult: float = 1.0
    """Width multiplier of a weight file's network."""
    image_size: int | None = None
    """Input size in pixels for a weight file's network; default: the file's own, or 224."""
    max_images: int | None = None
    """Ask so many images of each split at most; default: all."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it, beside those left out in training."""
    skip_bad: bool = False
    """Leave unreadable images out, and list them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    precision: str = "fp32"
    """fp32, or fp16 to store weights in half the bytes."""
    threads: int | None = None
    """Threads of the runtime asked; default: every core this process may use."""
    json: bool = False
    """Print the report as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(ExportOptions, argv, "export", ABOUT)
    import json

    from mobilenets.cli.progress import Live
    from mobilenets.report.export import export_text
    from mobilenets.workflows.export import export

    arguments = {name: value for name, value in vars(options).items() if name != "json"}
    with Live(console(stderr=True)) as live:
        report = export(**arguments, progress=live)
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        say(export_text(report))
    return 0
