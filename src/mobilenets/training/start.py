"""What a run starts from: a network with given weights, and images prepared as those weights want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from mobilenets.image_record import ImageRecord
from mobilenets.models.network import MobileNet, initialise
from mobilenets.models.registry import create_from_weights, create_model, default_options
from mobilenets.models.saved import record_of_weights
from mobilenets.models.weights.fit import LoadedWeights
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress
from mobilenets.training.checkpoints import load_state

WEIGHTS, WEIGHTS_FILE, WEIGHTS_SHA256 = "weights", "weights_file", "weights_sha256"
"""What a run remembers of the weights it began with: as they were asked for, their file and its digest."""
_OWN = ("image_size", "resize_size", "sample_bits", "float_white")
"""What of the preparation follows from the run and its images, not from the weights."""


@dataclass(frozen=True)
class Start:
    """A network about to be trained from given weights.

    Attributes:
        model: with the weights in it; of a run that is resumed, still fresh ones, as its own are read later.
        preprocessing: how its images are prepared.
        record: what the run is to remember of the weights, for its provenance.
        images: which images the weights were trained on; None where that is not known.
    """

    model: MobileNet
    preprocessing: Preprocessing
    record: Mapping[str, str]
    images: ImageRecord | None = None


def start_from_weights(
    network: Mapping[str, Any],
    weights: str | Path,
    classes: Sequence[str],
    seed: int,
    run: Path,
    *,
    resume: bool,
    progress: Progress,
    own_size: bool = False,
    images: ImageRecord | None = None,
) -> Start:
    """Build a network with the given weights, and tell the progress what was done to make them fit.

    A run that is resumed does not read them again: what they made of it stands in its state.

    Args:
        network: arguments of `create_model`, the name among them.
        weights: as `create_model` takes them.
        classes: the images' own, in the order of the network's outputs.
        seed: of what stays fresh, such as a classifier for other classes.
        run: the run folder.
        resume: whether the run was begun before.
        progress: told of the weights, once.
        own_size: take the image size the weights were made for instead of the network's, where it is known.
        images: which images the weights were trained on, as `images_before` says.

    Raises:
        WeightsError: the weights can't be had, read, or are of another network.
        RunError: there is nothing to resume.
    """
    # The folder's own name where the path ends in none, as "." does.
    asked = str(weights) if weights == "imagenet" else Path(weights).resolve().name
    if resume:
        return replace(_resumed(network, asked, run, own_size=own_size), images=images)
    arguments = {key: value for key, value in network.items() if key != "name" and value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = create_from_weights(network["name"], weights, arguments)
        size = report.preprocessing.image_size if own_size and report.preprocessing else model.config.image_size
        if size != model.config.image_size:  # a network's early strides depend on the size it is for
            model, report = create_from_weights(network["name"], weights, {**arguments, "image_size": size})
        notes = (*report.notes, *_check_classes(model, report, classes))
    record = {WEIGHTS: asked, WEIGHTS_FILE: report.path.name, WEIGHTS_SHA256: report.sha256}
    progress.message(f"starting from {report.path.name} ({report.origin})")
    for note in notes:
        progress.message(f"note: {note}")
    wanted = {} if report.preprocessing is None else report.preprocessing.to_dict()
    return Start(model, _preparation(wanted, model), record, images)


def images_before(weights: str | Path | None, run: Path, *, resume: bool) -> ImageRecord | None:
    """Which images the weights were trained on that a run begins with; a run that is resumed remembers it itself.

    Raises:
        RunError: the record is damaged.
    """
    if weights is None or weights == "imagenet":
        return None
    if resume and (own := ImageRecord.load(run)) is not None:
        return ImageRecord(own.inherited)
    begun = record_of_weights(weights)
    return None if begun is None else ImageRecord(begun.all_trained)


def _check_classes(model: MobileNet, report: LoadedWeights, classes: Sequence[str]) -> list[str]:
    """A classifier of as many, but other classes says nothing of these: start it anew, and say so."""
    if report.classes is None or report.classes == tuple(classes):
        return []
    initialise(model.classifier)
    pairs = zip(report.classes, classes, strict=True)
    theirs, ours = next((one, other) for one, other in pairs if one != other)
    return [f"the classifier is left fresh: the file's classes are others ({theirs} where the images have {ours})"]


def _resumed(network: Mapping[str, Any], asked: str, run: Path, *, own_size: bool) -> Start:
    begun = load_state(run, torch.device("cpu")).experiment
    # What is asked for now, so that a difference to what was begun is found, with the options the weights brought.
    own = default_options(network["name"])
    options = {key: value for key, value in begun.network.items() if key in own}
    if own_size:
        options["image_size"] = begun.network["image_size"]
    with torch.random.fork_rng(devices=[]):
        model = create_model(**{**network, **options})
    kept = {key: begun.network[key] for key in (WEIGHTS_FILE, WEIGHTS_SHA256) if key in begun.network}
    return Start(model, _preparation(begun.data, model), {WEIGHTS: asked, **kept})


def _preparation(wanted: Mapping[str, Any], model: MobileNet) -> Preprocessing:
    """The weights' mean, deviation, interpolation and channels, at the run's own size."""
    names = [field.name for field in fields(Preprocessing) if field.name not in _OWN]
    return Preprocessing(image_size=model.config.image_size, **{name: wanted[name] for name in names if name in wanted})
