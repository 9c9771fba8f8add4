"""`ImportedWeights`: what every kind of file is read into before it meets a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mobilenets.models.config import OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.preprocessing import Preprocessing


@dataclass(frozen=True)
class ImportedWeights:
    """The contents of a weight file, ready to be fitted into a network built with `options`.

    Attributes:
        path: the file or folder they were read from.
        origin: whose they are, for people: `torchvision`, `timm`, `TensorFlow Lite`, `run folder`.
        num_classes: outputs of the file's classifier.
        options: arguments of `create_model` these weights need to give their published answers, e.g.
            `{"padding": "same", "norm_eps": 1e-3}`.
        tensors: gives the file's tensors under the names of the network's state dict, the classifier's included; raises
            WeightsError naming the missing, extra and misshapen ones when the file is of another network. The number
            of classes is not its concern: it may differ from the network's.
        preprocessing: how images must be prepared for them; None when the file does not say.
        classes: the names of the outputs; None when the file does not say.
        in_channels: channels of the images the file's network takes.
        ask_for: options of `create_model` the file can't tell and its answers depend on: they must be given.
        ask_hint: what else tells them.
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
