"""`mobilenets evaluate`: score a trained network or an exported file on images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from mobilenets.cli.options import UsageError, parse
from mobilenets.cli.streams import console, say
from mobilenets.errors import MissingExtraError
from mobilenets.images import MAX_PIXELS
from mobilenets.run_folder import DESCRIPTION, recommended_run

if TYPE_CHECKING:
    from mobilenets.cli.progress import Live
    from mobilenets.data.loader import PreparedImages
    from mobilenets.evaluation.predictions import Predict
    from mobilenets.image_record import ImageRecord
    from mobilenets.preprocessing import Preprocessing

ABOUT = """Score a trained network, or a file exported from one, on images: top-1, top-5, every class, calibration.

Choose by --split validation; a run folder remembers each time that its test images were read. Images the network was
trained on are left out, and counted. A folder of its own is scored by --split all; its class folders are matched by
name. An exported file is asked in its runtime, as it will be on a device.

Example:
  mobilenets evaluate runs/digits --data digits --split validation
  mobilenets evaluate runs/photos --data new-photos --split all --mistakes wrong.csv
  mobilenets evaluate digits.onnx --data digits --backend openvino --threads 1
"""
BATCH = 250


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    run: tyro.conf.Positional[Path]
    """Run folder, as `mobilenets train` leaves it, an artifact, as `mobilenets export` writes it, or a comparison's
    folder for the network it recommends."""
    data: str = "digits"
    """Images, as for train; their classes are matched by name, and some may be missing."""
    split: Literal["test", "validation", "train", "all"] = "test"
    """Which images, none of them augmented; those of validation are found again as training left them out; all are
    those of every split that the network has not seen."""
    mistakes: Path | None = None
    """File (.csv or .json) for the images answered wrongly, with truth, answer and probability."""
    flip_test: bool = False
    """Answer each image together with its mirror image, at twice the cost; on a device nothing does so by itself."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it, beside those left out in training."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can\'t take all memory."""
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
    """What is scored: how it answers, its classes in output order, how its images are prepared, where it is from.

    `images` says which images it was trained on, where that is known.
    """

    predict: Predict
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, str]
    images: ImageRecord | None


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(EvaluateOptions, argv, "evaluate", ABOUT)
    asked = options.run
    options = replace(options, run=recommended_run(asked) or asked)
    if artifact := _is_artifact(options.run):
        _require_scoring()
    from mobilenets.cli.progress import Live
    from mobilenets.evaluation.predictions import evaluate
    from mobilenets.evaluation.wrong_answers import check_mistakes_file, write_wrong_answers
    from mobilenets.formatting import class_lines
    from mobilenets.report.compare import metrics_table

    if options.mistakes is not None:
        check_mistakes_file(options.mistakes)
    answerer = _artifact(options) if artifact else _network(options)
    with Live(console(stderr=True)) as live:
        if options.run != asked:
            live.message(f"{asked} recommends {options.run}")
        images = _images(options, answerer, live)
        scored = evaluate(
            answerer.predict,
            images.batches(BATCH),
            answerer.classes,
            progress=lambda done: live.update("scoring", done, len(images)),
            flip_test=options.flip_test,
            names=images.names,
        )
        if options.mistakes is not None:
            write_wrong_answers(options.mistakes, scored.mistakes)
            count = len(scored.mistakes)
            live.message(f"{count:,} image{'s' * (count != 1)} answered wrongly: {options.mistakes}")
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
    return Answerer(backend.predict, described.classes, described.preprocessing, described.provenance, described.images)


def _network(options: EvaluateOptions) -> Answerer:
    import torch

    from mobilenets.models.saved import load_network
    from mobilenets.training.plan import choose_device
    from mobilenets.training.scoring import torch_predict

    for name in ("backend", "precision", "threads"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for an artifact; {options.run} is none: export it first, or leave it out")
    saved = load_network(options.run)
    device = choose_device(options.device)
    predict = torch_predict(saved.model, saved.preprocessing, device, torch.channels_last)
    return Answerer(predict, saved.classes, saved.preprocessing, saved.provenance, saved.images)


def _images(options: EvaluateOptions, answerer: Answerer, live: Live) -> PreparedImages:
    """The split asked for, arranged for the network; what the user should know of it is told."""
    from mobilenets.data.datasets import load_dataset
    from mobilenets.data.decoding import differing
    from mobilenets.data.loader import prepare
    from mobilenets.data.scored_images import scored_images

    loaded = load_dataset(
        options.data,
        data_root=options.data_root,
        exclude=options.exclude,
        max_pixels=options.max_pixels,
        classes=answerer.classes,
        progress=live,
    )
    scored = scored_images(
        loaded, options.split, answerer.provenance, answerer.images, network=str(options.run), progress=live.update
    )
    images = prepare(
        scored.images,
        answerer.preprocessing,
        skip_bad=options.skip_bad,
        progress=lambda done, total: live.update("reading images", done, total),
    )
    darker = differing(answerer.preprocessing.deep, scored.images.sources)
    for note in (*scored.notes, *([darker] if darker else ())):
        live.message(f"note: {note}")
    if images.skipped:
        live.message(f"{len(images.skipped)} image{'s' * (len(images.skipped) > 1)} left out:")
    for image in images.skipped:
        live.message(f"  {image}")
    if options.split in ("test", "all") and (options.run / DESCRIPTION).is_file():
        _record(options.run, len(images), scored.digest, live)
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
