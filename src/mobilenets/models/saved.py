"""A trained network on disk: `model.safetensors` (weights) and `model.json` (how to build it and what it answers).

The two files are half of the run folder that training leaves; evaluation and export need nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mobilenets.errors import MobilenetsError, RunError, first_line
from mobilenets.files import write_bytes_atomically, write_text_atomically
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
FORMAT = 1


@dataclass(frozen=True)
class SavedNetwork:
    """A network with what is needed to use it: class names in output order, preprocessing, where it came from."""

    model: MobileNet
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: dict[str, str]


def save_network(folder: Path, network: SavedNetwork) -> None:
    """Write weights and description into `folder`; each file is replaced whole."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network.model.state_dict().items()}
    write_bytes_atomically(folder / WEIGHTS, save(tensors))
    description = {
        "format": FORMAT,
        "network": network.model.config.to_dict(),
        "classes": list(network.classes),
        "preprocessing": network.preprocessing.to_dict(),
        "provenance": network.provenance,
    }
    write_text_atomically(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def load_network(folder: Path) -> SavedNetwork:
    """Read a network back, in evaluation mode on the CPU.

    Raises:
        RunError: a file is missing, damaged, or the two do not fit together; the message names it.
    """
    description = _read_description(folder / DESCRIPTION)
    try:
        model = create_model(**description["network"])
        classes = tuple(str(name) for name in description["classes"])
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        provenance = {str(key): str(value) for key, value in description["provenance"].items()}
    except (KeyError, TypeError, AttributeError, MobilenetsError) as error:
        raise RunError(f"{folder / DESCRIPTION} does not describe a network: {error}") from error
    weights = folder / WEIGHTS
    try:
        missing, unexpected = model.load_state_dict(load_file(weights), strict=False)
    except FileNotFoundError as error:
        raise RunError(f"{weights} is missing: is {folder} a finished run? Continue it with --resume") from error
    except (SafetensorError, RuntimeError, OSError) as error:
        raise RunError(f"{weights} can't be loaded: {first_line(error)}") from error
    if missing or unexpected:
        raise RunError(
            f"{weights} does not fit {model.config.name}: {len(missing)} tensors missing, {len(unexpected)} unknown"
        )
    return SavedNetwork(model.eval(), classes, preprocessing, provenance)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} is no run folder (no {path.name}); 'mobilenets train' makes one") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise RunError(f"{path} is not a network description of format {FORMAT}")
    return description


def versions() -> dict[str, str]:
    """Provenance every saved network carries: what wrote it."""
    from mobilenets import __version__

    return {"mobilenets": __version__, "torch": torch.__version__}
