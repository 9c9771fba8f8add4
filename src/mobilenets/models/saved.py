"""A trained network on disk: `model.safetensors` (weights) and `model.json` (how to build and use it).

The two files are half of the run folder that training leaves; evaluation and export need nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mobilenets.errors import MobilenetsError, ModelError, RunError, WeightsError, first_line, other_format
from mobilenets.files import write_bytes_atomically, write_text_atomically
from mobilenets.image_record import ImageRecord
from mobilenets.limits import read_json
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.weights.state_dict import load_safetensors
from mobilenets.preprocessing import Preprocessing
from mobilenets.run_folder import DESCRIPTION, WEIGHTS

FORMAT = 1


@dataclass(frozen=True)
class SavedNetwork:
    """A network with what is needed to use it: class names in output order, preprocessing, where it came from.

    `images` says which images it was trained on, where that is known.
    """

    model: MobileNet
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: dict[str, str]
    images: ImageRecord | None = None


def save_network(folder: Path, network: SavedNetwork) -> None:
    """Write weights, description and, where there is one, the record of images into `folder`, each file whole.

    Raises:
        ModelError: the network has no classifier.
    """
    if network.model.num_classes == 0:
        raise ModelError("a run folder holds a classifier, and this network has none: call reset_classifier(n) first")
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network.model.state_dict().items()}
    write_bytes_atomically(folder / WEIGHTS, save(tensors))
    description = {
        "format": FORMAT,
        "network": network.model.config.to_dict(),
        "classes": list(network.classes),
        "preprocessing": network.preprocessing.to_dict(),
        "provenance": network.provenance,
    }
    if network.images is not None:
        network.images.save(folder)
    write_text_atomically(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def load_network(folder: str | Path) -> SavedNetwork:
    """Read a network back, in evaluation mode on the CPU.

    Raises:
        RunError: a file is missing, damaged, or the two do not fit together; the message names it.
    """
    folder = Path(folder)
    description = _read_description(folder / DESCRIPTION)
    try:
        # Without memory for its tensors: a description may ask for more than there is, and its weights tell.
        with torch.device("meta"):
            plan = create_model(**description["network"])
        classes = tuple(str(name) for name in description["classes"])
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        provenance = {str(key): str(value) for key, value in description["provenance"].items()}
    except KeyError as error:
        raise RunError(f"{folder / DESCRIPTION} does not describe a network: it lacks {error}") from error
    except (TypeError, AttributeError, ValueError, OverflowError, RuntimeError, MobilenetsError) as error:
        raise RunError(f"{folder / DESCRIPTION} does not describe a network: {first_line(error)}") from error
    _check_agreement(folder / DESCRIPTION, plan, classes, preprocessing)
    tensors = _tensors(folder / WEIGHTS)
    _check_fit(plan, tensors, folder / WEIGHTS)
    model = create_model(**description["network"])
    model.load_state_dict(tensors)
    return SavedNetwork(model.eval(), classes, preprocessing, provenance, ImageRecord.load(folder))


def record_of_weights(weights: str | Path) -> ImageRecord | None:
    """Which images weights were trained on, where they are a run folder or a file in one; None where it is not known.

    Raises:
        RunError: the record is damaged.
    """
    path = Path(weights)
    folder = path if path.is_dir() else path.parent
    return ImageRecord.load(folder) if (folder / DESCRIPTION).is_file() else None


def _check_agreement(path: Path, model: MobileNet, classes: tuple[str, ...], preprocessing: Preprocessing) -> None:
    """Refuse a description whose parts are each valid but not of one network: its outputs would be misnamed."""
    config = model.config
    if len(classes) != config.num_classes or not classes:
        raise RunError(
            f"{path} names {len(classes)} classes for a network of {config.num_classes} outputs; train it again"
        )
    if preprocessing.channels != config.in_channels:
        raise RunError(
            f"{path} prepares images of {preprocessing.channels} channels for a network that takes "
            f"{config.in_channels}; train it again"
        )


def _tensors(path: Path) -> dict[str, Tensor]:
    if not os.path.lexists(path):
        raise RunError(f"{path} is missing: is {path.parent} a finished run? Continue it with `resume=True`")
    try:
        return load_safetensors(path)
    except WeightsError as error:
        raise RunError(str(error)) from error


def _check_fit(model: MobileNet, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = model.state_dict()
    missing, unknown = len(wanted.keys() - tensors.keys()), len(tensors.keys() - wanted.keys())
    reshaped = sum(wanted[name].shape != tensors[name].shape for name in wanted.keys() & tensors.keys())
    if missing or unknown or reshaped:
        raise RunError(
            f"{path} does not fit {model.config.name} as {DESCRIPTION} describes it: "
            f"{missing} tensors missing, {unknown} unknown, {reshaped} of another shape"
        )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = read_json(path)
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} is no run folder (no {path.name}); 'mobilenets train' makes one") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(description, dict):
        raise RunError(f"{path} is not a network description; train it again")
    if (found := description.get("format")) != FORMAT:
        raise RunError(f"{path} {other_format(found, FORMAT, 'train it again')}")
    return description


def versions() -> dict[str, str]:
    """Provenance every saved network carries: what wrote it."""
    return {"mobilenets": version("mobilenets"), "torch": torch.__version__}
