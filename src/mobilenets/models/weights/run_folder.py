"""Our own networks as weights for another: a run folder, where all they need is written down, or bare tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilenets.errors import DataError, WeightsError
from mobilenets.limits import read_json
from mobilenets.models.config import OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import fit_tensors
from mobilenets.models.weights.imported import ImportedWeights
from mobilenets.models.weights.state_dict import read_safetensors
from mobilenets.preprocessing import Preprocessing

# As in models/saved.py, which builds networks and so stands above this module.
DESCRIPTION = "model.json"
TENSORS = "model.safetensors"
COMMON = ("name", "num_classes", "width_mult", "image_size", "dropout", "in_channels")
"""What a description says of every network; the rest are options of its own."""
STEM, CLASSIFIER = "stem.conv.weight", "classifier.weight"


def is_own(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a network of this package, by their names."""
    return STEM in tensors and CLASSIFIER in tensors


def read_run_folder(folder: Path) -> ImportedWeights:
    """Describe the network that training left in a folder.

    Raises:
        WeightsError: a file is missing or damaged; the message names it.
    """
    path = folder / TENSORS
    described = _described(path)
    if not os.path.lexists(path):
        raise WeightsError(f"{path} is missing: is {folder} a finished run? Continue it with `resume=True`")
    return _filled(described, read_safetensors(path))


def read_own(path: Path, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    """Describe tensors saved by hand, or the state of a run, with the description beside them where there is one.

    Raises:
        WeightsError: there is a description, but it can't be read.
    """
    if (path.parent / DESCRIPTION).exists():
        return _filled(_described(path), tensors)
    return ImportedWeights(
        path=path,
        origin="mobilenets",
        num_classes=tensors[CLASSIFIER].shape[0],
        options={},
        tensors=partial(_fitted, path, tensors),
        in_channels=tensors[STEM].shape[1],
        notes=(
            f"there is no {DESCRIPTION} beside the file: its network's other options are taken to be the defaults, "
            "and how images were prepared for it is not known",
        ),
        ask_for=("padding", "norm_eps"),
        ask_hint=f"give padding and norm_eps (symmetric and 1e-05 by default), or put its {DESCRIPTION} beside it",
    )


def _filled(described: ImportedWeights, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    """The description with these tensors, which must be of as many classes as it names."""
    path, named = described.path, len(described.classes or ())
    if not is_own(tensors):
        raise WeightsError(f"{path} is not what {DESCRIPTION} beside it describes: it lacks {STEM} or {CLASSIFIER}")
    rows = {named, described.num_classes, len(tensors[CLASSIFIER])}
    if len(rows) > 1:
        raise WeightsError(
            f"{path.with_name(DESCRIPTION)} describes {described.num_classes} outputs and names {named} classes, and "
            f"{path.name} has {len(tensors[CLASSIFIER])}: they are not of one network"
        )
    return replace(described, tensors=partial(_fitted, path, tensors))


def _described(path: Path) -> ImportedWeights:
    """What the description beside a file says of it."""
    description = _description(path.with_name(DESCRIPTION))
    try:
        network: dict[str, OptionValue] = dict(description["network"])
        return ImportedWeights(
            path=path,
            origin="run folder",
            num_classes=int(network["num_classes"]),
            options={name: value for name, value in network.items() if name not in COMMON},
            tensors=partial(_fitted, path, {}),
            preprocessing=Preprocessing.from_dict(description["preprocessing"]),
            classes=tuple(str(name) for name in description["classes"]),
            in_channels=int(network["in_channels"]),
        )
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError, DataError) as error:
        raise WeightsError(
            f"{path.with_name(DESCRIPTION)} does not describe a network: {error!r}; train it again"
        ) from error


def _fitted(path: Path, tensors: Mapping[str, Tensor], model: MobileNet) -> dict[str, Tensor]:
    """Ours are called as in the network."""
    own = {name.rpartition(".")[0] for name in model.state_dict()}
    return fit_tensors(path, tensors, {name: name for name in own}, model)


def _description(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing: {path.parent} is no run folder; 'mobilenets train' makes one"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} does not describe a network; train it again")
    return content
