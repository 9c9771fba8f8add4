"""Reading a file of named tensors, safely: nothing in it is ever executed."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobilenets.errors import WeightsError, first_line

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
"""Where training programs put a network's tensors inside a checkpoint; averaged ones first, as they score better."""
PREFIXES = ("module.", "_orig_mod.")
"""What data parallelism, averaging and compilation put before every name."""
AVERAGE_COUNTER = "n_averaged"
"""`torch.optim.swa_utils.AveragedModel` counts in a tensor beside the network's."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, without prefixes.

    Raises:
        WeightsError: it is damaged, or holds values that are no numbers.
    """
    try:
        return _cleaned(path, load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path} can't be read as safetensors ({first_line(error)}); get it anew") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file written by `torch.save`, without wrapping and prefixes, and notes on what was chosen.

    Raises:
        WeightsError: it is damaged, holds objects of other kinds, no network, or values that are no numbers.
    """
    try:
        with path.open("rb") as file:  # of a path, torch would judge by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged, and is not opened, as it could run code: where it comes "
            "from, save model.state_dict() alone"
        ) from error
    except (RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path} can't be read ({first_line(error)}); get it anew") from error
    tensors, wrapper = _unwrapped(content)
    if tensors is None:
        raise WeightsError(
            f"{path} holds no network's tensors: neither by name, nor under one of {', '.join(WRAPPERS)}"
        )
    notes = (f"the file holds several networks: the averaged one ({wrapper}) is taken",) if wrapper else ()
    return _cleaned(path, tensors), notes


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
    bad = [name for name, tensor in cleaned.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise WeightsError(f"{path} holds values that are no finite numbers, in {bad[0]}{more}; get it anew")
    return cleaned


def _common_prefix(tensors: Mapping[str, Tensor]) -> str:
    return next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
