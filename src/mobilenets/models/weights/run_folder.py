"""A run folder's network as weights for another: everything it needs is written beside the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilenets.errors import DataError, WeightsError
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


def read_run_folder(folder: Path) -> ImportedWeights:
    """Describe the network that training left in a folder.

    Raises:
        WeightsError: a file is missing or damaged; the message names it.
    """
    description = _description(folder / DESCRIPTION)
    try:
        network: dict[str, OptionValue] = dict(description["network"])
        classes = tuple(str(name) for name in description["classes"])
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        in_channels, num_classes = int(network["in_channels"]), int(network["num_classes"])
    except (LookupError, TypeError, ValueError, AttributeError, DataError) as error:
        raise WeightsError(f"{folder / DESCRIPTION} does not describe a network: {error!r}; train it again") from error
    path = folder / TENSORS
    if not path.is_file():
        raise WeightsError(f"{path} is missing: is {folder} a finished run? Continue it with --resume")
    tensors = read_safetensors(path)
    return ImportedWeights(
        path=path,
        origin="run folder",
        num_classes=num_classes,
        options={name: value for name, value in network.items() if name not in COMMON},
        tensors=lambda model: _fit(path, tensors, model),
        preprocessing=preprocessing,
        classes=classes,
        in_channels=in_channels,
    )


def _fit(path: Path, tensors: dict[str, Tensor], model: MobileNet) -> dict[str, Tensor]:
    """Ours are called as in the network."""
    own = {name.rpartition(".")[0] for name in model.state_dict()}
    return fit_tensors(path, tensors, {name: name for name in own}, model)


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} is missing: {path.parent} is no run folder; 'mobilenets train' makes one"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} does not describe a network; train it again")
    return content
