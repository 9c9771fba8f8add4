"""Reading a file of named tensors, safely: nothing in it is ever executed."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobilenets.errors import WeightsError, first_line
from mobilenets.limits import MAX_JSON_BYTES, open_regular, parse_json

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "model_state_dict")
"""Where training programs put a network's tensors inside a checkpoint; averaged ones first, as they score better."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What data parallelism and averaging, compilation, and Lightning put before every name."""
AVERAGE_COUNTER = "n_averaged"
"""`torch.optim.swa_utils.AveragedModel` counts in a tensor beside the network's."""
SAFE_OBJECTS = (argparse.Namespace,)
"""Allowed beside plain values: torchvision's and timm's training programs keep their options so. It runs nothing."""
COUNTER = "num_batches_tracked"
"""Batch norm's count of batches, the one tensor of whole numbers."""
_LENGTH_BYTES = 8
ZIP = b"PK\x03\x04"
_ZIP_MEMBER = "data.pkl"  # what torch.save's archives have in their one folder


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, without prefixes.

    Raises:
        WeightsError: it is damaged, or holds NaN or infinity.
    """
    return _cleaned(path, load_safetensors(path))


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as they stand there; its header is checked before anything is allocated.

    Raises:
        WeightsError: it is missing, unreadable, empty, cut short or damaged; the message says which.
    """
    try:
        _check_header(path)
        return load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror or error}); check the file") from error
    except (SafetensorError, RuntimeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path} is damaged ({first_line(error)}); download or save it again") from error


def _check_header(path: Path) -> None:
    """Eight bytes of a length, and that much JSON: no more than the file has."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise WeightsError(f"{path} is empty (0 bytes); download or save it again")
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise WeightsError(
                f"{path} is cut short, or no safetensors file ({size:,} bytes); download or save it again"
            )
        header = parse_json(file.read(min(length, MAX_JSON_BYTES + 1)))
        tensors = header.values() if isinstance(header, dict) else ()
        offsets = [
            tensor["data_offsets"] for tensor in tensors if isinstance(tensor, dict) and "data_offsets" in tensor
        ]
        if any(not isinstance(pair, list) or [type(end) for end in pair] != [int, int] for pair in offsets):
            raise ValueError("data_offsets that are no two whole numbers")
        if any(end > size - _LENGTH_BYTES - length for _, end in offsets):
            raise WeightsError(
                f"{path} is cut short ({size:,} bytes hold less than its header says); download or save it again"
            )


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file written by `torch.save`, without wrapping and prefixes, and notes on what was chosen.

    Raises:
        WeightsError: it is damaged, holds objects of other kinds, no network, or NaN or infinity.
    """
    content = _loaded(path)
    tensors, wrapper = _unwrapped(content)
    if tensors is None:
        raise WeightsError(
            f"{path} holds no network's tensors: neither by name, nor under one of {', '.join(WRAPPERS)}"
        )
    notes = (f"the file holds several networks: the averaged one ({wrapper}) is used",) if wrapper else ()
    return _cleaned(path, tensors), notes


def _loaded(path: Path) -> Any:
    """What `torch.save` wrote, so far as that is data."""
    _check_archive(path)
    try:
        # Given a path, torch would decide by its suffix. It warns of pickles and tensors that are refused below.
        with (
            path.open("rb") as file,
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(list(SAFE_OBJECTS)),
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged, and is not opened, as it could run code: where it comes "
            "from, save model.state_dict() alone"
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
        OverflowError,
    ) as error:
        raise WeightsError(f"{path} can't be read ({first_line(error)}); download or save it again") from error


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that is cut short or of something else: torch's message would call it a bug of torch."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return
        try:
            if not zipfile.is_zipfile(file):
                raise WeightsError(f"{path} is damaged or cut short: download or save it again")
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise WeightsError(f"{path} is damaged ({first_line(error)}): download or save it again") from error
    if not any(name.endswith(f"/{_ZIP_MEMBER}") for name in names):
        raise WeightsError(f"{path} is a zip archive, but not of weights: unpack it, or give the file torch.save wrote")


def _unwrapped(content: object) -> tuple[dict[str, Tensor] | None, str]:
    """The tensors, and the key they were under where another would have done too."""
    if not isinstance(content, Mapping):
        return None, ""
    found = {key: _tensors(content[key]) for key in WRAPPERS if key in content}
    held = {key: tensors for key, tensors in found.items() if tensors}
    if held:
        first = next(iter(held))
        return held[first], first if len(held) > 1 else ""
    return _tensors(content), ""


def _tensors(content: object) -> dict[str, Tensor] | None:
    """The content when it is a state dict: tensors by name and nothing else."""
    if not isinstance(content, Mapping) or not content:
        return None
    named = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return named if len(named) == len(content) else None


def _cleaned(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    cleaned = {name: tensor for name, tensor in tensors.items() if name != AVERAGE_COUNTER}
    while cleaned and (prefix := _common_prefix(cleaned)):
        cleaned = {name.removeprefix(prefix): tensor for name, tensor in cleaned.items()}
    _check_values(path, cleaned)
    return cleaned


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what a float32 network can't hold."""
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor, name)]
    if odd:
        raise WeightsError(
            f"{path} holds {_named(odd)} as {_kind(tensors[odd[0]])}, not as plain real numbers: "
            "give the file of the float network"
        )
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _fits_float32(tensor)]
    if bad:
        raise WeightsError(f"{path} holds NaN or infinity in {_named(bad)}; download or save it again")


def _is_plain(tensor: Tensor, name: str) -> bool:
    real = tensor.is_floating_point() or name.endswith(COUNTER)
    return real and tensor.layout == torch.strided and not tensor.is_meta


def _fits_float32(tensor: Tensor) -> bool:
    """Whether all values are finite, also once they are float32 (float8 has no comparison of its own)."""
    return bool(tensor.float().isfinite().all())


def _kind(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "shapes without values"
    return str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 1} more tensor{'s' * (len(names) > 2)}" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _common_prefix(tensors: Mapping[str, Tensor]) -> str:
    return next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
