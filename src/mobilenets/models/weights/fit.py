"""`fit_tensors`: a file's tensors for a network, or a message with the file's names of those that don't fit.

`ImportedWeights` is what every kind of file is read into; `LoadedWeights` reports on what a network was given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mobilenets.errors import WeightsError
from mobilenets.models.config import OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.state_dict import COUNTER
from mobilenets.preprocessing import Preprocessing

SHOWN = 3
"""Tensors of a kind that a message names; it counts the rest."""
CLASSIFIER = "classifier"


def fit_tensors(
    path: Path, tensors: Mapping[str, Tensor], modules: Mapping[str, str], model: MobileNet
) -> dict[str, Tensor]:
    """The file's tensors under the names of the network's state dict.

    The classifier's number of rows may differ from the network's: the caller resolves that.

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
            if kind != COUNTER:  # files from before PyTorch 0.4.1 lack it, and it changes no output
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
    """The tensors that don't fit, as one line: the first few of each kind and their number, of `total` tensors."""
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


@dataclass(frozen=True)
class LoadedWeights:
    """Where a network's starting weights came from.

    Attributes:
        path: the file they were read from.
        sha256: that file's digest, in hexadecimal.
        origin: whose they are: `torchvision`, `timm`, `TensorFlow Lite`, `run folder`.
        preprocessing: how images must be prepared for them, with the channels of the network; None when unknown.
        classes: names of the network's outputs, in order; None when unknown or when the classifier is a fresh one.
        fresh_classifier: whether the classifier is a fresh one, the file's being for another number of classes.
        notes: what was done that the file alone does not show, a sentence each: a classifier left fresh, ...
    """

    path: Path
    sha256: str
    origin: str
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    fresh_classifier: bool
    notes: tuple[str, ...]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; raises OSError when it can't be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ImportedWeights:
    """The contents of a weight file, ready to be fitted into a network built with `options`.

    Attributes:
        path: the file or folder they were read from.
        origin: whose they are, for people: `torchvision`, `timm`, `TensorFlow Lite`, `run folder`.
        num_classes: outputs of the file's classifier.
        options: arguments of `create_model` these weights need to give their published results, e.g.
            `{"padding": "same", "norm_eps": 1e-3}`.
        tensors: gives the file's tensors under the names of the network's state dict, the classifier's included; raises
            WeightsError naming the missing, extra and misshapen ones when the file is of another network. The number
            of classes is not its concern: it may differ from the network's.
        preprocessing: how images must be prepared for them; None when the file does not state it.
        classes: the names of the outputs; None when the file does not state them.
        in_channels: channels of the images the file's network takes.
        ask_for: options of `create_model` that change the outputs and that the file does not state: they must be given.
        ask_hint: where else to find them.
        has_background: output 0 is "background", before the 1,000 classes, as in TensorFlow's files.
        notes: what a user should know of this file, a sentence each.
    """

    path: Path
    origin: str
    num_classes: int
    options: Mapping[str, OptionValue]
    tensors: Callable[[MobileNet], dict[str, Tensor]]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    in_channels: int = 3
    has_background: bool = False
    notes: tuple[str, ...] = field(default=())
    ask_for: tuple[str, ...] = ()
    ask_hint: str = ""
