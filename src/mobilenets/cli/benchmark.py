"""`mobilenets benchmark`: measure exported files on this machine, in every runtime that is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mobilenets.cli.options import Integers, Names, arguments_of, parse
from mobilenets.cli.streams import console, warn
from mobilenets.image_formats import MAX_PIXELS

ABOUT = """Latency, throughput, memory and cold start of exported files, in every runtime and precision.

Every candidate runs in a process of its own, on as many cores as it has threads, and all take turns; differences
within the machine's noise are reported as not measurable.

Example:
  mobilenets benchmark model.onnx model-int8.onnx --against pytorch --out measured
  mobilenets benchmark model.onnx --backends openvino --threads 2 --batch-sizes 1 --json
"""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `benchmark`."""

    artifacts: tyro.conf.Positional[tuple[Path, ...]]
    """Files or folders that 'mobilenets export' or 'quantize' wrote."""
    data: str | None = None
    """Images to score each candidate on (their test split), for the picture; classes must be the files'."""
    out: Path | None = None
    """Folder for benchmark.json and, where matplotlib is installed, benchmark.png."""
    plot: Path | None = None
    """Write the picture here (.png)."""
    against: Names | None = None
    """Baselines to compare with: pytorch (the same network in PyTorch eager), onnxruntime or openvino (with the
    runtime's defaults), an artifact, or any .onnx, .xml or .tflite file."""
    batch_sizes: Integers = (1, 32)
    """Images a call."""
    seconds: float = 2.0
    """Measured time of each candidate at each batch size; waits in between take about as long again."""
    starts: int = 3
    """Fresh processes of each candidate, for cold start and peak memory."""
    skip_bad: bool = False
    """Leave unreadable images out, and say so, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    backends: Names | None = None
    """onnxruntime, openvino, litert, executorch; default: those installed that run the files."""
    precisions: Names | None = None
    """fp32, bf16, fp16, int8; default: all the backends have on this processor."""
    threads: Integers | None = None
    """Numbers of threads; default: 1 and one for every core."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb; 1 when an artifact could not be measured or scored."""
    options = parse(BenchmarkOptions, argv, "benchmark", ABOUT)
    from mobilenets.cli.progress import Live
    from mobilenets.report.benchmark import benchmark_text
    from mobilenets.workflows.benchmark import benchmark

    with Live(console(stderr=True)) as live:
        report = benchmark(**arguments_of(options), progress=live)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        console().print(benchmark_text(report))
        if options.out is None and options.plot is None:
            warn("--out DIR keeps these figures as JSON and a picture")
    return 1 if report.failures else 0
