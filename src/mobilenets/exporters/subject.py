"""What `export` can be given: a run folder, a weight file with the network it is of, or a network in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mobilenets.artifact.container import DOCUMENT, SUFFIXES, read_artifact
from mobilenets.errors import ArtifactError, RunError
from mobilenets.exporters.describe import Subject
from mobilenets.models.registry import create_from_weights
from mobilenets.models.saved import SavedNetwork, load_network, record_of_weights
from mobilenets.models.weights.read import read_weights
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress
from mobilenets.run_folder import recommended_run

IMAGENET = "imagenet"


def load_subject(
    run: Path | str | SavedNetwork,
    *,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
) -> tuple[Subject, tuple[str, ...]]:
    """Find the network to export, and what its user should know of it, a sentence each.

    Args:
        run: a run folder; with `model` also a weight file as `create_model` takes it, or `imagenet`.
        model: name of the network a weight file is of; None for a run folder, which knows.
        width_mult: of the network a weight file is of.
        image_size: side in pixels to export a weight file's network for; None takes the file's own, else 224.

    Raises:
        RunError: it is no run folder, the message says how a weight file is given; or `width_mult` or `image_size` is
            given for what says its own.
        WeightsError, ModelError: the weight file can't be read, or is of another network.
    """
    if isinstance(run, SavedNetwork):
        _refuse_sizes(width_mult, image_size)
        return Subject(run.model, run.classes, run.preprocessing, run.provenance, run.images), ()
    if model is not None:
        return _from_weights(run, model, width_mult, image_size)
    path = Path(run)
    _refuse_artifact(path)
    if run == IMAGENET or path.is_file():
        raise RunError(f"{run} is no run folder; if it is a weight file, name its network: `model=mobilenet_v2`")
    saved = load_network(path)
    _refuse_sizes(width_mult, image_size)
    return Subject(saved.model, saved.classes, saved.preprocessing, saved.provenance, saved.images), ()


def recommended(run: Path | str | SavedNetwork, progress: Progress) -> Path | str | SavedNetwork:
    """The run folder that a comparison's folder recommends, and say so; anything else as it is.

    Raises:
        RunError: the comparison recommends none, or its run is gone.
    """
    if isinstance(run, SavedNetwork) or (found := recommended_run(run)) is None:
        return run
    progress.message(f"{run} recommends {found}")
    return found


def _refuse_sizes(width_mult: float, image_size: int | None) -> None:
    """Better than to export another network than was asked for."""
    if width_mult != 1.0 or image_size is not None:
        raise RunError("`width_mult` and `image_size` are for a weight file; a run folder says its own")


def _refuse_artifact(path: Path) -> None:
    """A file that was exported holds a network no longer, only what it computes."""
    if not (path / DOCUMENT).is_file() and path.suffix.lower() not in filter(None, SUFFIXES.values()):
        return
    try:
        kind = read_artifact(path).description.kind
    except ArtifactError:
        return  # nothing of ours: what it is instead is said next
    raise RunError(f"{path} is an exported file already ({kind}); give the run folder it was made from")


def _from_weights(
    weights: Path | str, name: str, width_mult: float, image_size: int | None
) -> tuple[Subject, tuple[str, ...]]:
    classes, own_size = 1000, None
    if weights != IMAGENET:
        imported = read_weights(weights)
        classes = imported.num_classes - imported.has_background
        own_size = None if imported.preprocessing is None else imported.preprocessing.image_size
    size = image_size or own_size or 224
    arguments = {"num_classes": classes, "width_mult": width_mult, "image_size": size}
    network, report = create_from_weights(name, weights, arguments)
    notes = list(report.notes)
    if report.preprocessing is None:
        preprocessing = Preprocessing(image_size=size, channels=network.config.in_channels)
        notes.append("the file does not say how images are prepared: scaled to [-1, 1], as the papers' code does")
    else:
        preprocessing = _sized(report.preprocessing, size)
    if report.classes is None:
        notes.append("the file does not name its classes: they are numbered")
    names = report.classes or tuple(f"class {number}" for number in range(classes))
    record = {"weights_file": report.path.name, "weights_sha256": report.sha256, "weights_origin": report.origin}
    return Subject(network.eval(), names, preprocessing, record, record_of_weights(report.path)), tuple(notes)


def _sized(preprocessing: Preprocessing, size: int) -> Preprocessing:
    """The same for images of another size, with the same share cut off at the edges."""
    own, shorter = preprocessing.image_size, preprocessing.resize_size or preprocessing.image_size
    return replace(preprocessing, image_size=size, resize_size=round(shorter * size / own))
