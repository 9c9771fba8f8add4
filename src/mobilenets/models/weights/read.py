"""`read_weights`: any weight file, recognised by its contents and not by its name.

Our own networks are read here: a run folder, which holds all that is needed, or bare tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mobilenets.errors import DataError, WeightsError
from mobilenets.limits import MAX_MODEL_BYTES, open_regular, read_json, require_regular
from mobilenets.models.config import OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import ImportedWeights, fit_tensors
from mobilenets.models.weights.state_dict import ZIP, read_checkpoint, read_safetensors
from mobilenets.models.weights.timm import is_timm, read_timm
from mobilenets.models.weights.torchvision import is_torchvision, read_torchvision
from mobilenets.preprocessing import Preprocessing
from mobilenets.run_folder import DESCRIPTION, WEIGHTS

KINDS = "torchvision's .pth, timm's .safetensors or .pth, a TensorFlow Lite file, or a run folder"

_HEAD_BYTES = 16
_TFLITE = b"TFL3"  # at byte 4: the identifier of a FlatBuffers file
_MARKUP = b"<"  # of a web page
_MAX_HEADER = 100_000_000  # safetensors' own bound
_PICKLE = b"\x80"  # torch.save before PyTorch 1.6

# As in models/saved.py, which builds networks and so stands above this module.
COMMON = ("name", "num_classes", "width_mult", "image_size", "dropout", "in_channels")
"""Arguments in the description of every network; the others are options of one network."""
STEM, CLASSIFIER = "stem.conv.weight", "classifier.weight"


def is_own(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a network of this package, by their names."""
    return STEM in tensors and CLASSIFIER in tensors


def read_run_folder(folder: Path) -> ImportedWeights:
    """Describe the network that training left in a folder.

    Raises:
        WeightsError: a file is missing or damaged; the message names it.
    """
    path = folder / WEIGHTS
    described = _run_described(path)
    if not os.path.lexists(path):
        raise WeightsError(f"{path} is missing: is {folder} a finished run? Continue it with `resume=True`")
    return _filled(described, read_safetensors(path))


def read_own(path: Path, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    """Describe tensors saved without a run folder, or the state of a run; a description beside them is used.

    Raises:
        WeightsError: there is a description, but it can't be read.
    """
    if (path.parent / DESCRIPTION).exists():
        return _filled(_run_described(path), tensors)
    return ImportedWeights(
        path=path,
        origin="mobilenets",
        num_classes=tensors[CLASSIFIER].shape[0],
        options={},
        tensors=partial(_fitted, path, tensors),
        in_channels=tensors[STEM].shape[1],
        notes=(
            f"there is no {DESCRIPTION} beside the file: its network's other options are assumed to be the defaults, "
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


def _run_described(path: Path) -> ImportedWeights:
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
    """The tensors already have the network's names."""
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


def read_weights(path: str | Path) -> ImportedWeights:
    """Read a file or folder of weights.

    Args:
        path: torchvision's `.pth`; timm's `.safetensors` or `.pth`, or the folder of one with its `config.json`; a
            TensorFlow Lite file; a run folder. Checkpoints that wrap the tensors (`state_dict`, `model`, averaged
            ones) are unwrapped.

    Raises:
        WeightsError: it is missing, damaged, none of these, or can't be opened safely.
    """
    path = _path(path)
    if path.is_dir():
        return _read_folder(path)
    head = _head(path)
    if head[4:8] == _TFLITE:
        from mobilenets.models.weights.tflite import read_tflite_weights

        return read_tflite_weights(path)
    if _is_safetensors(head):  # before pickle: a header's length may begin with pickle's byte
        return _recognise(path, read_safetensors(path))
    if head.startswith((ZIP, _PICKLE)):
        tensors, notes = read_checkpoint(path)
        imported = _recognise(path, tensors)
        return replace(imported, notes=(*notes, *imported.notes))
    if not head:
        raise WeightsError(f"{path} is empty: download it again")
    if head.lstrip().startswith(_MARKUP):
        raise WeightsError(f"{path} is a web page, not the file it leads to: get the file itself")
    raise WeightsError(f"{path} is no weight file known here; it can be {KINDS}")


def _path(weights: object) -> Path:
    """The path given, when it can be one at all."""
    if not isinstance(weights, str | Path) or not str(weights) or "\0" in str(weights):
        raise WeightsError(f"weights is {weights!r}, no path of a file: it can be 'imagenet', {KINDS}")
    try:
        Path(weights).exists()
    except OSError as error:  # a name the system refuses
        raise WeightsError(f"weights can't be a path of {len(str(weights))} letters ({error.strerror})") from error
    return Path(weights)


def _read_folder(folder: Path) -> ImportedWeights:
    if (folder / DESCRIPTION).exists():
        return read_run_folder(folder)
    if os.path.lexists(folder / WEIGHTS):
        return read_weights(folder / WEIGHTS)
    raise WeightsError(f"{folder} is no run folder: it has no {DESCRIPTION}; weights can be {KINDS}")


def _recognise(path: Path, tensors: dict[str, Tensor]) -> ImportedWeights:
    """Whose tensors they are, by their names."""
    try:
        return _described(path, tensors)
    except IndexError as error:  # the names of a stem and a classifier, but not their dimensions
        raise WeightsError(
            f"{path} has tensors with a MobileNet's names, of other shapes than its layers have"
        ) from error


def _described(path: Path, tensors: dict[str, Tensor]) -> ImportedWeights:
    if is_torchvision(tensors):
        return read_torchvision(path, tensors)
    if is_timm(tensors):
        return read_timm(path, tensors)
    if is_own(tensors):
        return read_own(path, tensors)
    shown = ", ".join(list(tensors)[:3]) or "nothing"
    raise WeightsError(
        f"{path} holds {len(tensors)} tensors ({shown}, ...) of no MobileNet of torchvision's, timm's or ours"
    )


def _head(path: Path) -> bytes:
    try:
        require_regular(path, most=MAX_MODEL_BYTES)
        with open_regular(path) as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: weights can be {KINDS}, or 'imagenet'") from error
    except OSError as error:
        raise WeightsError(f"{path} can't be opened ({error.strerror}); check the file") from error


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then that many of JSON; what was cut off is to be called damaged, not unknown."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER
