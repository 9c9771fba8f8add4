"""Fitting a file's tensors into a network, or saying, in the file's own names, which don't fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mobilenets.errors import WeightsError
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.state_dict import COUNTER

SHOWN = 3
"""Tensors of a kind that a message names; it counts the rest."""
CLASSIFIER = "classifier"


def fit_tensors(
    path: Path, tensors: Mapping[str, Tensor], modules: Mapping[str, str], model: MobileNet
) -> dict[str, Tensor]:
    """The file's tensors under the names of the network's state dict.

    The classifier's number of rows may differ from the network's: that is the caller's to settle.

    Args:
        path: of the file, for messages.
        tensors: its contents, under its own names.
        modules: the network's modules that hold tensors, each with its name in the file.
        model: the network; only names and shapes are read, so it may be on the meta device.

    Raises:
        WeightsError: tensors are missing, extra or misshapen; the message names the first few of each and counts them.
    """
    fitted: dict[str, Tensor] = {}
    missing, misshapen, used = [], [], set()
    for ours, place in model.state_dict().items():
        module, _, kind = ours.rpartition(".")
        theirs = f"{modules[module]}.{kind}"
        if theirs not in tensors:
            if kind != COUNTER:  # files from before PyTorch 0.4.1 lack it, and it changes no answer
                missing.append(theirs)
            continue
        used.add(theirs)
        tensor = as_shaped(tensors[theirs], place)
        if _shape(tensor, module) == _shape(place, module):
            fitted[ours] = tensor
        else:
            found, wanted = list(tensors[theirs].shape), list(place.shape)
            misshapen.append(f"{theirs} {found} where the network has {wanted}")
    extra = sorted(tensors.keys() - used)
    if missing or extra or misshapen:
        raise WeightsError(
            f"{path} does not fit {title(model)}: {differences(len(model.state_dict()), missing, extra, misshapen)}"
        )
    return fitted


def as_shaped(tensor: Tensor, place: Tensor) -> Tensor:
    """A 1x1 convolution's `[O, I, 1, 1]` as the linear layer `[O, I]` that computes the same; others as they are."""
    if tensor.dim() == 4 and place.dim() == 2 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def title(model: MobileNet) -> str:
    """The network as a message calls it: `mobilenet_v2 at width 0.75`."""
    return f"{model.config.name} at width {model.config.width_mult:g}"


def differences(total: int, missing: Sequence[str], extra: Sequence[str], misshapen: Sequence[str]) -> str:
    """The tensors that don't fit in one line, the first few of each kind and how many there are; `total` is all."""
    parts = [
        f"{len(names)} of {total} tensors {word} ({_listed(names)})"
        if word != "too many"
        else f"{len(names)} {word} ({_listed(names)})"
        for word, names in (("missing", missing), ("too many", extra), ("of another shape", misshapen))
        if names
    ]
    return ", ".join(parts)


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > SHOWN else "")


def _shape(tensor: Tensor, module: str) -> tuple[int, ...]:
    return tuple(tensor.shape[1:] if module == CLASSIFIER else tensor.shape)
