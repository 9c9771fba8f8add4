"""`mobilenets benchmark`: measure exported files on this machine, in every runtime that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from mobilenets.cli.options import Integers, Names, parse
from mobilenets.cli.streams import console, warn
from mobilenets.errors import MissingExtraError
from mobilenets.image_formats import MAX_PIXELS, check_max_pixels
from mobilenets.install import install_line
from mobilenets.run_folder import recommended_file

if TYPE_CHECKING:
    from mobilenets.benchmarking.results import BenchmarkReport
    from mobilenets.cli.progress import Live
    from mobilenets.data.datasets import Dataset
    from mobilenets.data.loader import PreparedImages
    from mobilenets.preprocessing import Preprocessing

ABOUT = """Latency, throughput, memory and cold start of exported files, in every runtime and precision.

Every candidate runs in a process of its own, on as many cores as it has threads, and all take turns; differences that
the machine's noise could have made are said to be none.

Example:
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
    """Peers to compare with: pytorch (the same network in PyTorch eager), onnxruntime or openvino (run with
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
    skip_bad: bool = False
    """Leave unreadable images out, and say so, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can\'t take all memory."""
    out: Path | None = None
    """Folder for benchmark.json and, where matplotlib is installed, benchmark.png."""
    plot: Path | None = None
    """Write the picture here (.png)."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Scoring:
    """What the files are scored on: the data set, and its test images as each kind of file takes them."""

    dataset: Dataset
    images: Mapping[Preprocessing, PreparedImages]


def main(argv: Sequence[str]) -> int:
    """Run the verb; 1 when an artifact could not be measured or scored."""
    options = parse(BenchmarkOptions, argv, "benchmark", ABOUT)
    check_max_pixels(options.max_pixels)
    options = replace(options, artifacts=tuple(recommended_file(path) or path for path in options.artifacts))
    from mobilenets.benchmarking.benchmark import benchmark
    from mobilenets.cli.progress import Live
    from mobilenets.report.benchmark import benchmark_text

    _require_places(options)  # now, not after minutes of measuring
    with Live(console(stderr=True)) as live:
        scoring = _scoring(options, live)
        report = benchmark(
            options.artifacts,
            against=options.against,
            backends=options.backends,
            precisions=options.precisions,
            threads=options.threads,
            batch_sizes=options.batch_sizes,
            seconds=options.seconds,
            starts=options.starts,
            progress=live.update,
        )
        _write(report, options)
        if scoring is not None:
            report = _scored(report, scoring, live)
            _write(report, options)
        _draw(report, options, live)
    if options.json:
        print(report.to_json())
    else:
        console().print(benchmark_text(report))
        if options.out is None and options.plot is None:
            warn("--out DIR keeps these figures as JSON and a picture")
    return 1 if report.failures else 0


def _require_places(options: BenchmarkOptions) -> None:
    from mobilenets.errors import RunError
    from mobilenets.files import check_writable

    if options.out is not None:
        check_writable(options.out)
    if options.plot is not None:
        if not options.plot.name or options.plot.is_dir():
            raise RunError(f"{options.plot}: the picture is a file: give {options.plot / PICTURE_FILE}")
        if options.plot.suffix.lower() != ".png":
            raise RunError(f"{options.plot}: the picture is a PNG: give {options.plot.with_suffix('.png')}")
        _require_matplotlib()
        check_writable(options.plot, folder=False)


def _write(report: BenchmarkReport, options: BenchmarkOptions) -> None:
    from mobilenets.files import write_text_atomically

    if options.out is not None:
        write_text_atomically(options.out / JSON_FILE, report.to_json() + "\n")


def _draw(report: BenchmarkReport, options: BenchmarkOptions, live: Live) -> None:
    if options.out is not None:
        try:
            _require_matplotlib()
        except MissingExtraError as error:
            live.message(f"{options.out / PICTURE_FILE} is not drawn: {error}")
        else:
            _draw_at(report, options.out / PICTURE_FILE)
    if options.plot is not None:
        _draw_at(report, options.plot)


def _draw_at(report: BenchmarkReport, path: Path) -> None:
    from mobilenets.report.plots.benchmark import benchmark_png

    benchmark_png(report, path)


def _require_matplotlib() -> None:
    from importlib import import_module

    try:
        import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the picture needs matplotlib: {install_line('train')}") from error


def _scoring(options: BenchmarkOptions, live: Live) -> Scoring | None:
    """The images to score on, read and checked against every artifact before anything is measured."""
    from importlib import import_module

    from mobilenets.artifact.container import read_artifact
    from mobilenets.errors import DataError

    if options.data is None:
        return None
    try:
        import_module("mobilenets.evaluation.predictions")
    except ModuleNotFoundError as error:
        raise MissingExtraError("scoring needs scikit-learn and scipy: pip install scikit-learn scipy") from error
    from mobilenets.data.datasets import load_dataset
    from mobilenets.data.loader import default_memory_limit, prepare
    from mobilenets.data.unseen import TEST, as_trained

    dataset = load_dataset(
        options.data, data_root=options.data_root, max_pixels=options.max_pixels, progress=live.update
    )
    kinds: dict[Preprocessing, None] = {}
    known = {path: read_artifact(path).description for path in options.artifacts}
    for path, described in known.items():
        kinds[described.preprocessing] = None
        if described.classes != dataset.classes:
            raise DataError(
                f"{options.data} has other classes than {path}: an accuracy would mean nothing; leave --data out"
            )
    for described in known.values():  # all are scored on the same images: those that none of them has seen
        dataset, _ = as_trained(dataset, described.provenance, described.images, parts=(TEST,), progress=live.update)
    for note in dict.fromkeys(dataset.notes):
        live.message(f"note: {note}")
    images = {
        kind: prepare(
            dataset.test,
            kind,
            skip_bad=options.skip_bad,
            progress=lambda done, total: live.update("reading images", done, total),
            memory_limit=default_memory_limit() // len(kinds),
        )
        for kind in kinds
    }
    for name, reason in {image.name: image.reason for one in images.values() for image in one.skipped}.items():
        live.message(f"left out: {name}: {reason}")
    return Scoring(dataset, images)


def _scored(report: BenchmarkReport, scoring: Scoring, live: Live) -> BenchmarkReport:
    """The report with each artifact's accuracy in each runtime and precision, whatever its threads."""
    from mobilenets.artifact.container import read_artifact
    from mobilenets.benchmarking.results import Accuracy, Failure
    from mobilenets.errors import MobilenetsError
    from mobilenets.evaluation.predictions import evaluate
    from mobilenets.runtime.backend import open_backend

    found: dict[tuple[str, str, str], Accuracy] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    lost: dict[tuple[str, str, str], Failure] = {}
    for row in report.rows:
        key = (row.path, row.backend, row.precision)
        if row.source != "artifact" or row.peer:  # a peer may have other classes
            continue
        labels[row.label] = key
        if key in found or key in lost:
            continue
        live.message(f"scoring {row.label}")
        try:
            artifact = read_artifact(Path(row.path))
            images = scoring.images[artifact.description.preprocessing]
            backend = open_backend(artifact, backend=row.backend, precision=row.precision)
            scored = evaluate(backend.predict, images.batches(SCORING_BATCH), scoring.dataset.classes)
        except MobilenetsError as error:  # loses no figure that was measured
            lost[key] = Failure(row.label, f"not scored: {error}")
            continue
        found[key] = Accuracy(scored.metrics.top1, f"{len(images):,} test images of {scoring.dataset.name}")
    report = report.with_accuracies({label: found[key] for label, key in labels.items() if key in found})
    return replace(report, failures=(*report.failures, *lost.values()))
