"""`benchmark`: exported files measured on this machine in every runtime installed, and scored where images are given.

The core install is enough: scoring and drawing name what they need before anything is measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mobilenets.arguments import GivenPaths, names_of, numbers_of, paths_of
from mobilenets.artifact.container import read_artifact
from mobilenets.benchmarking import benchmark as measuring
from mobilenets.benchmarking.results import Accuracy, BenchmarkReport, Failure
from mobilenets.errors import DataError, MissingExtraError, MobilenetsError, RunError
from mobilenets.files import check_writable, write_text_atomically
from mobilenets.image_formats import MAX_PIXELS, check_max_pixels
from mobilenets.install import install_line
from mobilenets.progress import Progress, Silent
from mobilenets.run_folder import recommended_file
from mobilenets.runtime.backend import open_backend

if TYPE_CHECKING:
    from mobilenets.data.datasets import Dataset
    from mobilenets.data.loader import PreparedImages
    from mobilenets.preprocessing import Preprocessing

JSON_FILE, PICTURE_FILE = "benchmark.json", "benchmark.png"
SCORING_BATCH: Final = 32


def benchmark(
    artifacts: GivenPaths,
    data: str | Path | Dataset | None = None,
    out: str | Path | None = None,
    *,
    plot: str | Path | None = None,
    against: str | Sequence[str] | None = None,
    batch_sizes: int | Sequence[int] = (1, 32),
    seconds: float = 2.0,
    starts: int = 3,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    backends: str | Sequence[str] | None = None,
    precisions: str | Sequence[str] | None = None,
    threads: int | Sequence[int] | None = None,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure latency, throughput, memory, size and cold start of every way to run these files here.

    Every candidate runs in a process of its own, on as many cores as it has threads, and all take turns.

    Args:
        artifacts: files or folders that `export` or `quantize` wrote, one or several, or a comparison's folder for the
            file of the network it recommends.
        data: images to score each candidate on (their test split), as for training; classes must be the files'.
        out: folder for `benchmark.json` and, where matplotlib is installed, `benchmark.png`.
        plot: a file (.png) for the picture.
        against: baselines: `pytorch` (the same network in PyTorch eager), `onnxruntime`, `openvino` (those two with
            the runtime's defaults), an artifact, or any model file; None for none.
        batch_sizes: images a call.
        seconds: measured time of each candidate at each batch size; waits in between take about as long again.
        starts: fresh processes of each candidate, for cold start and peak memory.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        backends: restrict to these; None takes every one installed.
        precisions: restrict to these; None takes every one the backends have on this processor.
        threads: numbers of threads; None takes 1 and every usable core.
        progress: told of progress.

    Returns:
        A row for every candidate that ran; those that could not be measured or scored are its `failures`.

    Raises:
        ArtifactError: a file that is missing, damaged or no artifact.
        BackendError: an unknown backend, precision or baseline, or no candidate could be measured.
        DataError: the images can't be used, or are of other classes than the files.
        MissingExtraError: a backend, baseline, or what scoring or the picture needs is not installed.
        RunError: `out` or `plot` can't be written.
        MobilenetsError: no artifact, a batch below 1, or candidates that don't fit into memory together.
    """
    progress = progress or Silent()
    check_max_pixels(max_pixels)
    given = tuple(recommended_file(path) or path for path in paths_of(artifacts))
    places = _Places(None if out is None else Path(out), None if plot is None else Path(plot))
    places.check()  # now, not after minutes of measuring
    images = None if data is None else _scoring_images(given, data, skip_bad, data_root, max_pixels, progress)
    report = measuring.benchmark(
        given,
        against=names_of(against or ()),
        backends=names_of(backends or ()),
        precisions=names_of(precisions or ()),
        threads=() if threads is None else numbers_of(threads),
        batch_sizes=numbers_of(batch_sizes),
        seconds=seconds,
        starts=starts,
        progress=progress.update,
    )
    places.write(report)
    if images is not None:
        report = _scored(report, images, progress)
        places.write(report)
    places.draw(report, progress)
    return report


@dataclass(frozen=True)
class _Places:
    """Where the report and its picture go."""

    out: Path | None
    plot: Path | None

    def check(self) -> None:
        if self.out is not None:
            check_writable(self.out)
        if self.plot is not None:
            if not self.plot.name or self.plot.is_dir():
                raise RunError(f"{self.plot}: the picture is a file: give {self.plot / PICTURE_FILE}")
            if self.plot.suffix.lower() != ".png":
                raise RunError(f"{self.plot}: the picture is a PNG: give {self.plot.with_suffix('.png')}")
            _require_matplotlib()
            check_writable(self.plot, folder=False)

    def write(self, report: BenchmarkReport) -> None:
        if self.out is not None:
            write_text_atomically(self.out / JSON_FILE, json.dumps(report.to_dict(), indent=2) + "\n")

    def draw(self, report: BenchmarkReport, progress: Progress) -> None:
        if self.out is not None:
            try:
                _require_matplotlib()
            except MissingExtraError as error:
                progress.message(f"{self.out / PICTURE_FILE} is not drawn: {error}")
            else:
                _draw(report, self.out / PICTURE_FILE)
        if self.plot is not None:
            _draw(report, self.plot)


def _draw(report: BenchmarkReport, path: Path) -> None:
    from mobilenets.report.plots.benchmark import benchmark_png

    benchmark_png(report, path)


def _require_matplotlib() -> None:
    try:
        import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the picture needs matplotlib: {install_line('train')}") from error


@dataclass(frozen=True)
class _ScoringImages:
    """What the files are scored on: the data set, and its test images as each kind of file takes them."""

    dataset: Dataset
    images: Mapping[Preprocessing, PreparedImages]


def _scoring_images(
    artifacts: Sequence[Path],
    data: str | Path | Dataset,
    skip_bad: bool,
    data_root: str | Path | None,
    max_pixels: int,
    progress: Progress,
) -> _ScoringImages:
    """The images to score on, read and checked against every artifact before anything is measured."""
    try:
        for name in ("scipy.special", "sklearn.metrics"):
            import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError("scoring needs scikit-learn and scipy: pip install scikit-learn scipy") from error
    from mobilenets.data.datasets import load_dataset
    from mobilenets.data.held_out import TEST, as_trained
    from mobilenets.data.loader import default_memory_limit, prepare

    dataset = load_dataset(data, data_root=data_root, max_pixels=max_pixels, progress=progress)
    known = {path: read_artifact(path).description for path in artifacts}
    for path, described in known.items():
        if described.classes != dataset.classes:
            raise DataError(
                f"{dataset.name} has other classes than {path}: an accuracy would mean nothing; leave `data` out"
            )
    for described in known.values():  # all are scored on the same images: those that none of them has seen
        dataset, _ = as_trained(
            dataset, described.provenance, described.images, parts=(TEST,), progress=progress.update
        )
    for note in dict.fromkeys(dataset.notes):
        progress.message(f"note: {note}")
    kinds = dict.fromkeys(described.preprocessing for described in known.values())
    images = {
        kind: prepare(
            dataset.test,
            kind,
            skip_bad=skip_bad,
            progress=lambda done, total: progress.update("reading images", done, total),
            memory_limit=default_memory_limit() // len(kinds),
        )
        for kind in kinds
    }
    for name, reason in {image.name: image.reason for one in images.values() for image in one.skipped}.items():
        progress.message(f"left out: {name}: {reason}")
    return _ScoringImages(dataset, images)


def _scored(report: BenchmarkReport, scoring: _ScoringImages, progress: Progress) -> BenchmarkReport:
    """The report with each artifact's accuracy in each runtime and precision, whatever its threads."""
    from mobilenets.evaluation.predictions import evaluate_predictions

    found: dict[tuple[str, str, str], Accuracy] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    lost: dict[tuple[str, str, str], Failure] = {}
    for row in report.rows:
        key = (row.path, row.backend, row.precision)
        if row.source != "artifact" or row.peer:  # a baseline may have other classes
            continue
        labels[row.label] = key
        if key in found or key in lost:
            continue
        progress.message(f"scoring {row.label}")
        try:
            artifact = read_artifact(Path(row.path))
            images = scoring.images[artifact.description.preprocessing]
            backend = open_backend(artifact, backend=row.backend, precision=row.precision)
            scored = evaluate_predictions(backend.predict, images.batches(SCORING_BATCH), scoring.dataset.classes)
        except MobilenetsError as error:  # loses no figure that was measured
            lost[key] = Failure(row.label, f"not scored: {error}")
            continue
        found[key] = Accuracy(scored.metrics.top1, f"{len(images):,} test images of {scoring.dataset.name}")
    report = report.with_accuracies({label: found[key] for label, key in labels.items() if key in found})
    return replace(report, failures=(*report.failures, *lost.values()))
