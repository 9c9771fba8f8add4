"""`load_weights`: a network built for a weight file, with the file's tensors in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilenets.errors import ModelError, WeightsError
from mobilenets.models.config import NetworkConfig, OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fetch import fetch_published
from mobilenets.models.weights.fit import CLASSIFIER, ImportedWeights, LoadedWeights, file_sha256, title
from mobilenets.models.weights.published import published_weights
from mobilenets.models.weights.read import read_weights
from mobilenets.preprocessing import Preprocessing

IMAGENET = "imagenet"
STEM = "stem.conv.weight"
WIDTHS = (1.0, 0.75, 0.5, 1.4, 0.35, 0.25, 1.25, 1.3)
"""Published widths, the commonest first: what a file of another width is tried as."""

Builders = Mapping[str, Callable[..., MobileNet]]


@dataclass(frozen=True)
class Request:
    """What was asked for: the network's name, its arguments that every network has, and its own options as given."""

    name: str
    arguments: Mapping[str, OptionValue]
    options: Mapping[str, OptionValue]


def load_weights(weights: str | Path, request: Request, builders: Builders) -> tuple[MobileNet, LoadedWeights]:
    """Build the network asked for with a file's weights.

    Args:
        weights: `imagenet` for the published file of the network and width, or what `read_weights` takes.
        request: the network. An option given there is kept where the weights want another, and the notes say so.
        builders: of every network by name: this one's, and those a wrong file is compared with.

    Returns:
        The network in training mode, its classifier fresh where the numbers of classes differ, and the report.

    Raises:
        WeightsError: the file can't be downloaded or read, or is of another network.
        ModelError: an argument that is not valid.
    """
    _check_arguments(request)
    imported = read_weights(_located(weights, request))
    build, notes = builders[request.name], list(imported.notes)
    accepted = inspect.signature(build).parameters
    # What the network has no argument for is of another one: its tensors won't fit, and are what the message is on.
    wanted = {name: value for name, value in imported.options.items() if name in accepted}
    notes += _contradictions(request.options, wanted)
    options = {**wanted, **request.options}
    model = build(**request.arguments, **options)
    tensors = _fitted(imported, request, options, builders)
    _require_known(imported, request.options)  # after fitting: a file of another network needs no options
    notes += _adapt_classifier(tensors, imported, model)
    notes += _adapt_stem(tensors, imported, model)
    model.load_state_dict({**model.state_dict(), **tensors})
    report = LoadedWeights(
        path=imported.path,
        sha256=file_sha256(imported.path),
        origin=imported.origin,
        preprocessing=_for_channels(imported.preprocessing, model.config.in_channels),
        classes=_classes(imported, model.config.num_classes),
        fresh_classifier=model.num_classes > 0 and not any(name.startswith(f"{CLASSIFIER}.") for name in tensors),
        notes=tuple(notes),
    )
    return model, report


def _check_arguments(request: Request) -> None:
    """Refuse what no network takes before anything is downloaded or read."""
    NetworkConfig(request.name, **{"dropout": 0.0, **request.arguments})  # type: ignore[arg-type]  # checked there


def _require_known(imported: ImportedWeights, given: Mapping[str, OptionValue]) -> None:
    """Refuse to guess: a wrong padding or eps raises no error anywhere, but the outputs are wrong."""
    missing = [name for name in imported.ask_for if name not in given]
    if missing:
        raise WeightsError(
            f"{imported.path} does not state the {' and '.join(missing)} its network was trained with, and outputs "
            f"depend on them: {imported.ask_hint}"
        )


def _located(weights: str | Path, request: Request) -> str | Path:
    if weights != IMAGENET:
        return weights
    return fetch_published(published_weights(request.name, float(request.arguments["width_mult"])))


def _fitted(
    imported: ImportedWeights, request: Request, options: Mapping[str, OptionValue], builders: Builders
) -> dict[str, Tensor]:
    """The tensors for the network as the file has it, with its own classes and channels."""
    same = _as_in_file(imported, builders[request.name], {**request.arguments, **options})
    try:
        tensors = imported.tensors(same)
    except WeightsError as error:
        hint = _resembled(imported, request, builders)
        raise WeightsError(f"{error}{hint}") from error
    for name, place in same.classifier.state_dict(prefix=f"{CLASSIFIER}.").items():
        if tensors[name].shape != place.shape:
            raise WeightsError(
                f"{imported.path} contradicts itself: {list(tensors[name].shape)} is its {name} for "
                f"{imported.num_classes} classes"
            )
    return tensors


def _as_in_file(imported: ImportedWeights, build: Callable[..., MobileNet], arguments: Mapping[str, Any]) -> MobileNet:
    """The network with the file's classes and channels, on the meta device: only names and shapes are compared."""
    changed = {**arguments, "num_classes": imported.num_classes, "in_channels": imported.in_channels}
    with torch.device("meta"):
        return build(**changed)


def _resembled(imported: ImportedWeights, request: Request, builders: Builders) -> str:
    """What a file that does not fit is of, for the end of the message; empty when nothing here fits it."""
    asked = request.arguments["width_mult"]
    own: list[tuple[str, OptionValue]] = [(request.name, width) for width in WIDTHS]
    # Every network at every width would take a minute; a wrong name mostly comes with the right width.
    others = [(name, width) for name in builders if name != request.name for width in dict.fromkeys((asked, 1.0))]
    for name, width in own + others:
        accepted = inspect.signature(builders[name]).parameters
        options = {key: value for key, value in imported.options.items() if key in accepted}
        try:
            other = _as_in_file(imported, builders[name], {**request.arguments, **options, "width_mult": width})
            imported.tensors(other)
        except (WeightsError, ModelError):
            continue  # not this one either
        return f"; the file looks like {title(other)}"
    return ""


def _contradictions(given: Mapping[str, OptionValue], wanted: Mapping[str, OptionValue]) -> list[str]:
    return [
        f"{name}={given[name]!r} as asked, where these weights were made for {value!r}: their outputs will differ"
        for name, value in wanted.items()
        if name in given and given[name] != value
    ]


def _adapt_classifier(tensors: dict[str, Tensor], imported: ImportedWeights, model: MobileNet) -> list[str]:
    """Keep, shorten or leave out the file's classifier, in place; return the notes on it."""
    asked, held = model.config.num_classes, imported.num_classes
    if asked == held:
        return []
    names = [name for name in tensors if name.rpartition(".")[0] == CLASSIFIER]
    if asked == 0:
        for name in names:
            del tensors[name]
        return []
    if _drops_background(imported, asked):
        tensors.update({name: tensors[name][1:] for name in names})
        return [f"output 0 of the file, the background, is left out: {asked} classes remain"]
    for name in names:
        del tensors[name]
    return [f"the classifier is left fresh: the file has {held} classes, {asked} are asked for"]


def _adapt_stem(tensors: dict[str, Tensor], imported: ImportedWeights, model: MobileNet) -> list[str]:
    """Fit the first convolution to the images' channels, in place; return the notes on it."""
    asked, held = model.config.in_channels, imported.in_channels
    if asked == held:
        return []
    if asked != 1:
        raise WeightsError(
            f"{imported.path} is of a network for images of {held} channels, and can't be fitted to {asked}; "
            f"ask for in_channels={held}, or for 1"
        )
    # A grey image in every channel gives the same sum.
    tensors[STEM] = tensors[STEM].sum(dim=1, keepdim=True)
    return [f"the stem's weights are summed over the file's {held} channels, for grey images"]


def _for_channels(preprocessing: Preprocessing | None, channels: int) -> Preprocessing | None:
    """The same for images of fewer channels: mean and deviation averaged."""
    if preprocessing is None or preprocessing.channels == channels:
        return preprocessing
    mean, std = (sum(values) / len(values) for values in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, channels=channels, mean=(mean,), std=(std,))


def _classes(imported: ImportedWeights, asked: int) -> tuple[str, ...] | None:
    """The names of the outputs that came from the file: none of a fresh classifier's."""
    if imported.classes is None or asked == imported.num_classes:
        return imported.classes
    return imported.classes[1:] if _drops_background(imported, asked) else None


def _drops_background(imported: ImportedWeights, asked: int) -> bool:
    return imported.has_background and 0 < asked == imported.num_classes - 1
