"""`mobilenets benchmark`: measure exported files on this machine, in every runtime that is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from mobilenets.cli.options import Integers, Names, parse
from mobilenets.errors import MissingExtraError

if TYPE_CHECKING:
    from mobilenets.benchmarking.results import BenchmarkReport
    from mobilenets.cli.live import Live
    from mobilenets.data.datasets import Dataset

ABOUT = """Latency, throughput, memory and cold start of exported files, in every runtime and precision.

Every candidate runs in a process of its own, on as many cores as it has threads, and all take turns; differences that
the machine's noise could have made are said to be none.

Examples:
  mobilenets benchmark model.onnx model-int8.onnx --against pytorch --out measured
  mobilenets benchmark model.onnx --backends openvino --threads 2 --batch-sizes 1 --json
"""
JSON_FILE, PICTURE_FILE = "benchmark.json", "benchmark.png"
SCORING_BATCH = 32


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `benchmark`."""

    artifacts: tyro.conf.Positional[tuple[Path, ...]]
    """Files or folders that 'mobilenets export' or 'quantize' wrote."""
    against: Names = ()
    """Peers to compare with: pytorch (the same network in PyTorch eager), onnxruntime or openvino (run by hand, with
    their defaults), an artifact, or anybody's .onnx, .xml or .tflite file."""
    backends: Names = ()
    """onnxruntime, openvino, litert, executorch; without it, those installed that run the files."""
    precisions: Names = ()
    """fp32, bf16, fp16, int8; without it, all the backends have on this processor."""
    threads: Integers = ()
    """Numbers of threads; without it, 1 and one for every core."""
    batch_sizes: Integers = (1, 32)
    """Images a call."""
    seconds: float = 2.0
    """Measured time of each candidate at each batch size; waits in between take about as long again."""
    starts: int = 3
    """Fresh processes of each candidate, for cold start and peak memory."""
    data: str | None = None
    """Images to score each candidate on (their test split), for the picture; classes must be the files'."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    out: Path | None = None
    """Folder for benchmark.json and, where matplotlib is installed, benchmark.png."""
    plot: Path | None = None
    """Write the picture here (.png)."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb; 1 when an artifact could not be measured."""
    options = parse(BenchmarkOptions, argv, "benchmark", ABOUT)
    from rich.console import Console

    from mobilenets.benchmarking.benchmark import benchmark
    from mobilenets.benchmarking.benchmark_text import benchmark_text
    from mobilenets.cli.live import Live

    _require_places(options)  # now, not after minutes of measuring
    dataset = _dataset(options)
    with Live(Console(stderr=True)) as live:
        report = benchmark(
            options.artifacts,
            against=options.against,
            backends=options.backends,
            precisions=options.precisions,
            threads=options.threads,
            batch_sizes=options.batch_sizes,
            seconds=options.seconds,
            starts=options.starts,
            progress=live.progress,
        )
        if dataset is not None:
            report = _scored(report, dataset, live)
        _write(report, options, live)
    if options.json:
        print(report.to_json())
    else:
        Console().print(benchmark_text(report))
    return 1 if report.failures else 0


def _require_places(options: BenchmarkOptions) -> None:
    from mobilenets.errors import RunError
    from mobilenets.files import make_folder

    if options.out is not None:
        make_folder(options.out)
    if options.plot is not None:
        if options.plot.suffix.lower() != ".png":
            raise RunError(f"{options.plot}: the picture is a PNG: give {options.plot.with_suffix('.png')}")
        _require_matplotlib()
        make_folder(options.plot.parent)


def _write(report: BenchmarkReport, options: BenchmarkOptions, live: Live) -> None:
    from mobilenets.files import write_text_atomically

    if options.out is not None:
        write_text_atomically(options.out / JSON_FILE, report.to_json() + "\n")
        try:
            _require_matplotlib()
        except MissingExtraError as error:
            live.message(f"{options.out / PICTURE_FILE} is not drawn: {error}")
        else:
            _draw(report, options.out / PICTURE_FILE)
    if options.plot is not None:
        _draw(report, options.plot)


def _draw(report: BenchmarkReport, path: Path) -> None:
    from mobilenets.report.benchmark_plot import benchmark_png

    benchmark_png(report, path)


def _require_matplotlib() -> None:
    from importlib import import_module

    try:
        import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise MissingExtraError("the picture needs matplotlib: pip install 'mobilenets[train]'") from error


def _dataset(options: BenchmarkOptions) -> Dataset | None:
    """The images to score on, checked against every artifact before anything is measured."""
    from mobilenets.artifact.container import read_artifact
    from mobilenets.errors import DataError

    if options.data is None:
        return None
    from mobilenets.data.datasets import load_dataset

    dataset = load_dataset(options.data, data_root=options.data_root)
    for path in options.artifacts:
        if read_artifact(path).description.classes != dataset.classes:
            raise DataError(
                f"{options.data} has other classes than {path}: an accuracy would mean nothing; leave --data out"
            )
    return dataset


def _scored(report: BenchmarkReport, dataset: Dataset, live: Live) -> BenchmarkReport:
    """The report with each artifact's accuracy in each runtime and precision, whatever its threads."""
    from mobilenets.artifact.container import read_artifact
    from mobilenets.benchmarking.results import Accuracy
    from mobilenets.data.loader import prepare
    from mobilenets.evaluation.evaluate import evaluate
    from mobilenets.runtime.backend import open_backend

    found: dict[tuple[str, str, str], Accuracy] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    for row in report.rows:
        key = (row.path, row.backend, row.precision)
        if row.source != "artifact" or row.peer:  # a peer may have other classes
            continue
        labels[row.label] = key
        if key in found:
            continue
        artifact = read_artifact(Path(row.path))
        live.message(f"scoring {row.label}")
        images = prepare(dataset.test, artifact.description.preprocessing)
        backend = open_backend(artifact, backend=row.backend, precision=row.precision)
        scored = evaluate(backend.predict, images.batches(SCORING_BATCH), dataset.classes)
        found[key] = Accuracy(scored.metrics.top1, f"{len(images):,} test images of {dataset.name}")
    return report.with_accuracies({label: found[key] for label, key in labels.items()})
