"""`evaluate`: a trained network or an exported file, scored on images it has not seen.

An exported file is scored in its runtime, without PyTorch: nothing here may load it before a run folder asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mobilenets.artifact.container import DOCUMENT, SUFFIXES, read_artifact
from mobilenets.errors import DataError, MissingExtraError, MobilenetsError
from mobilenets.images import MAX_PIXELS
from mobilenets.progress import Progress, Silent
from mobilenets.run_folder import DESCRIPTION, recommended_run

if TYPE_CHECKING:
    from mobilenets.data.datasets import Dataset
    from mobilenets.data.loader import PreparedImages
    from mobilenets.data.scored_images import ScoredImages
    from mobilenets.evaluation.predictions import Evaluation, Predict
    from mobilenets.image_record import ImageRecord
    from mobilenets.models.saved import SavedNetwork
    from mobilenets.preprocessing import Preprocessing

BATCH: Final = 250
SPLITS: Final = ("test", "validation", "train", "all")


def evaluate(
    run_or_artifact: str | Path | SavedNetwork,
    data: str | Path | Dataset = "digits",
    *,
    split: str = "test",
    mistakes: str | Path | None = None,
    flip_test: bool = False,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    device: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a trained network, or a file exported from one: top-1, top-5, every class, calibration.

    Images the network was trained on are left out, and a note counts them. The test images of a run folder are read for
    a record: its ledger says when, and a note warns where they were read before. Choose by `split="validation"`.

    Args:
        run_or_artifact: a run folder, a comparison's folder for the network it recommends, a loaded network, or a file
            that `export`, `quantize` or `deploy` wrote, which is scored in its runtime, without PyTorch.
        data: images as for training, or a data set in memory; classes are matched by name, and some may be missing.
        split: `test`, `validation` (found again as training left them out), `train`, or `all`: those of every split
            that the network has not seen. None of them is augmented.
        mistakes: a file (.csv or .json) for the images misclassified, with truth, answer and probability.
        flip_test: average the answers to each image and its mirror image, at twice the cost.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        device: of a network: `cpu`, `cuda` or `mps`; None takes the best present.
        backend: of a file: `onnxruntime`, `openvino`, `litert` or `executorch`; None takes what the file prefers.
        precision: of a file: arithmetic to compute in, e.g. `fp32` or `bf16`; None takes the file's own.
        threads: of a file: threads of the runtime; None takes every usable core.
        progress: told of progress and of the notes.

    Returns:
        The scores, the answers, the wrong ones, and what the user should know.

    Raises:
        RunError, ArtifactError: there is no such run or file, or it is damaged.
        DataError: the images can't be used, are of other classes, or there is no such split.
        BackendError: the file can't be run so.
        MissingExtraError: what scoring needs is not installed.
        MobilenetsError: an argument that only a network, or only a file, takes.
    """
    progress = progress or Silent()
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; valid: {', '.join(SPLITS)}")
    _require_scoring()
    from mobilenets.evaluation.predictions import evaluate_predictions
    from mobilenets.evaluation.wrong_answers import check_mistakes_file, write_wrong_answers

    if mistakes is not None:
        check_mistakes_file(Path(mistakes))
    run = _recommended(run_or_artifact, progress)
    options = {"device": device, "backend": backend, "precision": precision, "threads": threads}
    scored = (
        _open_artifact(Path(run), backend, precision, threads, device)
        if isinstance(run, str | Path) and _is_artifact(Path(run))
        else _open_network(run, options)
    )
    notes: list[str] = []
    images = _images(
        scored,
        data,
        split,
        notes,
        progress,
        exclude=exclude,
        skip_bad=skip_bad,
        data_root=data_root,
        max_pixels=max_pixels,
    )
    found = evaluate_predictions(
        scored.predict,
        images.batches(BATCH),
        scored.classes,
        progress=lambda done: progress.update("scoring", done, len(images)),
        flip_test=flip_test,
        names=images.names,
    )
    if mistakes is not None:
        write_wrong_answers(mistakes, found.mistakes)
        count = len(found.mistakes)
        progress.message(f"{count:,} image{'s' * (count != 1)} misclassified: {mistakes}")
    return replace(found, notes=tuple(notes))


@dataclass(frozen=True)
class _Scored:
    """What is scored: its predict function, classes in output order, preprocessing and where it is from.

    `images` says which images it was trained on, where that is known; `run` is the run folder, which has a ledger.
    """

    name: str
    predict: Predict
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, str]
    images: ImageRecord | None
    run: Path | None = None


def _require_scoring() -> None:
    """What scoring needs beyond the core install; the extra that has it would bring PyTorch, too."""
    if any(find_spec(name) is None for name in ("pydantic", "scipy", "sklearn")):
        raise MissingExtraError(
            "scoring needs pydantic, scikit-learn and scipy: pip install pydantic scikit-learn scipy"
        )


def _recommended(given: str | Path | SavedNetwork, progress: Progress) -> str | Path | SavedNetwork:
    """The run that a comparison's folder recommends, and say so; anything else as it is."""
    if not isinstance(given, str | Path) or (found := recommended_run(given)) is None:
        return given
    progress.message(f"{given} recommends {found}")
    return found


def _is_artifact(path: Path) -> bool:
    """Files are, also missing ones by their name; of folders, OpenVINO's with a description inside."""
    named = not path.exists() and path.suffix.lower() in filter(None, SUFFIXES.values())
    return named or path.is_file() or (path / DOCUMENT).is_file()


def _open_artifact(
    path: Path, backend: str | None, precision: str | None, threads: int | None, device: str | None
) -> _Scored:
    """The file in its runtime; PyTorch is not loaded."""
    from mobilenets.runtime.backend import open_backend
    from mobilenets.runtime.classifier import check_golden

    if device is not None:
        raise MobilenetsError(f"`device` is for a run; {path} is an artifact: choose its `backend`")
    artifact = read_artifact(path)
    described = artifact.description
    opened = open_backend(artifact, backend=backend, threads=threads, precision=precision)
    check_golden(artifact, opened)
    return _Scored(
        str(path), opened.predict, described.classes, described.preprocessing, described.provenance, described.images
    )


def _open_network(run: str | Path | SavedNetwork, options: Mapping[str, str | int | None]) -> _Scored:
    import torch

    from mobilenets.models.saved import load_network
    from mobilenets.training.plan import choose_device
    from mobilenets.training.scoring import torch_predict

    folder = Path(run) if isinstance(run, str | Path) else None
    name = "the network" if folder is None else str(folder)
    for option in ("backend", "precision", "threads"):
        if options[option] is not None:
            raise MobilenetsError(f"`{option}` is for an artifact; {name} is none: export it first, or leave it out")
    saved = load_network(run) if isinstance(run, str | Path) else run
    asked = options["device"]
    device = choose_device(None if asked is None else str(asked))
    predict = torch_predict(saved.model, saved.preprocessing, device, torch.channels_last)
    return _Scored(name, predict, saved.classes, saved.preprocessing, saved.provenance, saved.images, folder)


def _images(
    scored: _Scored,
    data: str | Path | Dataset,
    split: str,
    notes: list[str],
    progress: Progress,
    *,
    exclude: str | Path | None,
    skip_bad: bool,
    data_root: str | Path | None,
    max_pixels: int,
) -> PreparedImages:
    """The split asked for, arranged for the network; what the user should know of it is told."""
    from mobilenets.data.datasets import load_dataset
    from mobilenets.data.decoding import differing
    from mobilenets.data.loader import prepare
    from mobilenets.data.scored_images import scored_images

    loaded = load_dataset(
        data,
        data_root=data_root,
        exclude=exclude,
        max_pixels=max_pixels,
        classes=scored.classes,
        progress=progress,
    )
    chosen = scored_images(
        loaded, split, scored.provenance, scored.images, network=scored.name, progress=progress.update
    )
    images = prepare(
        chosen.images,
        scored.preprocessing,
        skip_bad=skip_bad,
        progress=lambda done, total: progress.update("reading images", done, total),
    )
    darker = differing(scored.preprocessing.deep, chosen.images.sources)
    notes += [*chosen.notes, *([darker] if darker else ())]
    for note in notes:
        progress.message(f"note: {note}")
    if images.skipped:
        progress.message(f"{len(images.skipped)} image{'s' * (len(images.skipped) > 1)} left out:")
    for image in images.skipped:
        progress.message(f"  {image}")
    notes += [f"left out: {image}" for image in images.skipped]
    if split in ("test", "all"):
        _record(scored, images, chosen, notes, progress)
    return images


def _record(
    scored: _Scored, images: PreparedImages, chosen: ScoredImages, notes: list[str], progress: Progress
) -> None:
    """Write down that a run's test images are read, and warn where they were before."""
    from mobilenets.evaluation.evaluation_set import LEDGER, record_reading

    if scored.run is None or not (scored.run / DESCRIPTION).is_file():
        return
    before = record_reading(scored.run, "evaluate", len(images), chosen.digest)
    if before:
        notes.append(
            f"these test images were read for this run before ({before[0].command}, {before[0].at}; this is reading "
            f"{len(before) + 1}, see {scored.run / LEDGER}); what is chosen by their figures makes them too good: "
            "choose by split validation"
        )
        progress.message(f"note: {notes[-1]}")
