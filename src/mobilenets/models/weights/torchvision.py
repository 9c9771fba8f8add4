"""torchvision's weights of MobileNetV2 and V3: how its modules are called, and what its weights need.

Source of the names and figures: torchvision `models/mobilenetv2.py` and `models/mobilenetv3.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mobilenets.errors import WeightsError
from mobilenets.models.layers import ConvNormActivation, InvertedResidual
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import ImportedWeights, fit_tensors, title
from mobilenets.models.weights.published import IMAGENET_MEAN, IMAGENET_STD, published_file
from mobilenets.preprocessing import Preprocessing

STEM = "features.0.0.weight"
"""What every torchvision MobileNet has, and no other file."""


def is_torchvision(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are a torchvision MobileNet's tensors, by their names."""
    return STEM in tensors


def read_torchvision(path: Path, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    """Describe torchvision's tensors; its networks are ours with the same eps and padding, so they need no options.

    Raises:
        WeightsError: there is no classifier.
    """
    classifier = _last_classifier(path, tensors)
    known = published_file(path.name)
    notes: tuple[str, ...] = ()
    if known is None:
        notes = ("the file does not say how images were prepared for it: torchvision's usual way is assumed",)
    return ImportedWeights(
        path=path,
        origin="torchvision",
        num_classes=tensors[classifier].shape[0],
        options={},
        tensors=lambda model: fit_tensors(path, tensors, torchvision_modules(path, model), model),
        preprocessing=known.preprocessing
        if known
        else Preprocessing(image_size=224, resize_size=256, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        in_channels=tensors[STEM].shape[1],
        notes=notes,
    )


def torchvision_modules(path: Path, model: MobileNet) -> dict[str, str]:
    """The network's modules that hold tensors, each with torchvision's name for it.

    Raises:
        WeightsError: torchvision has no such network.
    """
    modules = {"stem.conv": "features.0.0", "stem.norm": "features.0.1"}
    for index, block in enumerate(model.blocks):
        if not isinstance(block, InvertedResidual):
            raise WeightsError(f"{path} is torchvision's, which has no {title(model)}: only MobileNetV2 and V3")
        theirs = f"features.{index + 1}"
        named = _v3_block(block, f"{theirs}.block") if model.penultimate else _v2_block(block, f"{theirs}.conv")
        modules |= {f"blocks.{index}.{module}": name for module, name in named.items()}
    head = f"features.{len(model.blocks) + 1}"
    modules |= {"head.conv": f"{head}.0", "head.norm": f"{head}.1"}
    if model.penultimate:
        return modules | {"penultimate.linear": "classifier.0", "classifier": "classifier.3"}
    return modules | {"classifier": "classifier.1"}


def _v2_block(block: nn.Sequential, prefix: str) -> dict[str, str]:
    """V2 nests conv-norm-activation, but lays the projection's convolution and norm out flat."""
    modules = {}
    for index, (name, part) in enumerate(block.named_children()):
        last = name == "project"
        modules[f"{name}.conv"] = f"{prefix}.{index}" if last else f"{prefix}.{index}.0"
        if isinstance(part, ConvNormActivation):
            modules[f"{name}.norm"] = f"{prefix}.{index + 1}" if last else f"{prefix}.{index}.1"
    return modules


def _v3_block(block: nn.Sequential, prefix: str) -> dict[str, str]:
    modules: dict[str, str] = {}
    for index, (name, part) in enumerate(block.named_children()):
        if isinstance(part, ConvNormActivation):
            modules |= {f"{name}.conv": f"{prefix}.{index}.0", f"{name}.norm": f"{prefix}.{index}.1"}
        else:
            modules |= {f"{name}.reduce": f"{prefix}.{index}.fc1", f"{name}.expand": f"{prefix}.{index}.fc2"}
    return modules


def _last_classifier(path: Path, tensors: Mapping[str, Tensor]) -> str:
    names = [name for name in ("classifier.3.weight", "classifier.1.weight") if name in tensors]
    if not names:
        raise WeightsError(
            f"{path} looks like torchvision's but has no classifier.1 or classifier.3; give the file of a whole network"
        )
    return names[0]
