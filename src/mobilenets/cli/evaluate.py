"""`mobilenets evaluate`: score a trained network or an exported file on images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from mobilenets.cli.options import UsageError, parse
from mobilenets.cli.streams import console, say
from mobilenets.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from mobilenets.cli.live import Live
    from mobilenets.data.loader import PreparedImages
    from mobilenets.evaluation.evaluate import Predict
    from mobilenets.preprocessing import Preprocessing

ABOUT = """Score a trained network, or a file exported from one, on images: top-1, top-5, every class, calibration.

Choose by --split validation; a run folder remembers each time that its test images were read. An exported file is
asked in its runtime, as it will be on a device.

Example:
  mobilenets evaluate runs/digits --data digits --split validation
  mobilenets evaluate digits.onnx --data digits --backend openvino --threads 1
"""
BATCH = 250
DESCRIPTION = "model.json"  # what makes a folder a run; its own module loads PyTorch


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    run: tyro.conf.Positional[Path]
    """Run folder, as `mobilenets train` leaves it, or an artifact, as `mobilenets export` writes it."""
    data: str = "digits"
    """Images, as for train; their classes must be the network's."""
    split: Literal["test", "validation", "train"] = "test"
    """Which images, none of them augmented; those of validation are found again as training left them out."""
    flip_test: bool = False
    """Answer each image together with its mirror image, at twice the cost; on a device nothing does so by itself."""
    exclude: Path | None = None
    """File that lists images to leave out, as given for training: the validation images are cut from the others."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    device: str | None = None
    """Of a run: cpu, cuda or mps; without it, the best there is."""
    backend: str | None = None
    """Of an artifact: onnxruntime, openvino, litert or executorch; without it, what the file prefers."""
    precision: str | None = None
    """Of an artifact: arithmetic to compute in, e.g. fp32 or bf16; without it, the file's own."""
    threads: int | None = None
    """Of an artifact: threads of the runtime; without it, every core this process may use."""
    json: bool = False
    """Print the scores as JSON."""


@dataclass(frozen=True)
class Answerer:
    """What is scored: how it answers, its classes in output order, how its images are prepared, where it is from."""

    predict: Predict
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, str]


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(EvaluateOptions, argv, "evaluate", ABOUT)
    if artifact := _is_artifact(options.run):
        _require_scoring()
    from mobilenets.cli.live import Live
    from mobilenets.evaluation.evaluate import evaluate
    from mobilenets.report.tables import metrics_table
    from mobilenets.report.wording import class_lines

    answerer = _artifact(options) if artifact else _network(options)
    with Live(console(stderr=True)) as live:
        images = _images(options, answerer, live)
        scored = evaluate(
            answerer.predict,
            images.batches(BATCH),
            answerer.classes,
            progress=lambda done: live.progress("scoring", done, len(images)),
            flip_test=options.flip_test,
        )
    if options.json:
        print(json.dumps(asdict(scored.metrics)))
    else:
        console().print(metrics_table(scored.metrics))
        for line in class_lines(scored.metrics):
            say(line)
    return 0


def _require_scoring() -> None:
    """What scoring an artifact needs beyond the core install; the extra that has them would bring PyTorch, too."""
    if any(find_spec(name) is None for name in ("pydantic", "scipy", "sklearn")):
        raise MissingExtraError(
            "scoring needs pydantic, scikit-learn and scipy: pip install pydantic scikit-learn scipy"
        )


def _is_artifact(path: Path) -> bool:
    """Files are, also missing ones by their name; of folders, OpenVINO's with a description inside."""
    from mobilenets.artifact.container import DOCUMENT, SUFFIXES

    named = not path.exists() and path.suffix.lower() in filter(None, SUFFIXES.values())
    return named or path.is_file() or (path / DOCUMENT).is_file()


def _artifact(options: EvaluateOptions) -> Answerer:
    """The file in its runtime; PyTorch is not loaded."""
    from mobilenets.artifact.container import read_artifact
    from mobilenets.runtime.backend import open_backend
    from mobilenets.runtime.classifier import check_golden

    if options.device is not None:
        raise UsageError(f"--device is for a run; {options.run} is an artifact: choose its --backend")
    artifact = read_artifact(options.run)
    described = artifact.description
    backend = open_backend(artifact, backend=options.backend, threads=options.threads, precision=options.precision)
    check_golden(artifact, backend)
    return Answerer(backend.predict, described.classes, described.preprocessing, described.provenance)


def _network(options: EvaluateOptions) -> Answerer:
    import torch

    from mobilenets.models.saved import load_network
    from mobilenets.training.device import choose_device
    from mobilenets.training.scoring import torch_predict

    for name in ("backend", "precision", "threads"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for an artifact; {options.run} is none: export it first, or leave it out")
    saved = load_network(options.run)
    device = choose_device(options.device)
    predict = torch_predict(saved.model, saved.preprocessing, device, torch.channels_last)
    return Answerer(predict, saved.classes, saved.preprocessing, saved.provenance)


def _images(options: EvaluateOptions, answerer: Answerer, live: Live) -> PreparedImages:
    """The split asked for, arranged for the network; what the user should know of it is told."""
    from mobilenets.data.datasets import check_classes, load_dataset
    from mobilenets.data.loader import prepare
    from mobilenets.data.validation import cut_again

    loaded = load_dataset(options.data, data_root=options.data_root, exclude=options.exclude, progress=live.progress)
    check_classes(loaded, options.data, answerer.classes, answered_by=str(options.run))
    dataset, unknown = cut_again(loaded, answerer.provenance)
    split = {"test": dataset.test, "validation": dataset.validation, "train": dataset.train}[options.split]
    if split is None:
        raise DataError(f"{options.data} has no validation images for {options.run}: {unknown}")
    images = prepare(
        split,
        answerer.preprocessing,
        skip_bad=options.skip_bad,
        progress=lambda done, total: live.progress("reading images", done, total),
    )
    for note in dataset.notes:
        live.message(f"note: {note}")
    if options.split == "train" and dataset.validation is not None:
        live.message("note: the training images are those trained on, without the validation images")
    if images.skipped:
        live.message(f"{len(images.skipped)} image{'s' * (len(images.skipped) > 1)} left out:")
    for image in images.skipped:
        live.message(f"  {image}")
    if options.split == "test" and (options.run / DESCRIPTION).is_file():
        _record(options.run, len(images), dataset.digest, live)
    return images


def _record(run: Path, images: int, digest: str, live: Live) -> None:
    """Write down that a run's test images are read, and warn where they were before."""
    from mobilenets.evaluation.ledger import LEDGER, record_reading

    before = record_reading(run, "evaluate", images, digest)
    if before:
        live.message(
            f"note: these test images were read for this run before ({before[0].command}, {before[0].at}; this is "
            f"reading {len(before) + 1}, see {run / LEDGER}); what is chosen by their figures makes them too good: "
            "choose with --split validation"
        )
