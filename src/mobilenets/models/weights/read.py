"""`read_weights`: any weight file, told by its contents and not by its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mobilenets.errors import WeightsError
from mobilenets.limits import MAX_MODEL_BYTES, open_regular, require_regular
from mobilenets.models.weights.imported import ImportedWeights
from mobilenets.models.weights.run_folder import DESCRIPTION, TENSORS, is_own, read_own, read_run_folder
from mobilenets.models.weights.state_dict import ZIP, read_checkpoint, read_safetensors
from mobilenets.models.weights.timm import is_timm, read_timm
from mobilenets.models.weights.torchvision import is_torchvision, read_torchvision

KINDS = "torchvision's .pth, timm's .safetensors or .pth, a TensorFlow Lite file, or a run folder"

_HEAD_BYTES = 16
_TFLITE = b"TFL3"  # at byte 4: the identifier of a FlatBuffers file
_MARKUP = b"<"  # of a web page
_MAX_HEADER = 100_000_000  # safetensors' own bound
_PICKLE = b"\x80"  # torch.save before PyTorch 1.6


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
        raise WeightsError(f"{path} is empty: get it anew")
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
    if os.path.lexists(folder / TENSORS):
        return read_weights(folder / TENSORS)
    raise WeightsError(f"{folder} is no run folder: it has no {DESCRIPTION}; weights can be {KINDS}")


def _recognise(path: Path, tensors: dict[str, Tensor]) -> ImportedWeights:
    """Whose tensors they are, by their names."""
    try:
        return _described(path, tensors)
    except IndexError as error:  # the names of a stem and a classifier, but not their dimensions
        raise WeightsError(f"{path} has tensors named as a MobileNet's that are none of its layers'") from error


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
