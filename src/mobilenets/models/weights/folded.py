"""Layers with folded batch norm into a network that has its own: in execution order, every one checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobilenets.errors import WeightsError
from mobilenets.models.blocks import InvertedResidual
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import SHOWN, differences, title
from mobilenets.tflite.layer import Layer

_FUNCTIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hard_swish",
    nn.Hardsigmoid: "hard_sigmoid",
}


@dataclass(frozen=True)
class Slot:
    """A layer of our network that takes a file's: its names in the state dict, and what it must be."""

    name: str
    layer: nn.Conv2d | nn.Linear
    norm_name: str
    norm: nn.BatchNorm2d | None
    activation: str
    shortcut: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its weights, `[out, in / groups, height, width]`."""
        shape = tuple(self.layer.weight.shape)
        return shape if len(shape) == 4 else (*shape, 1, 1)

    @property
    def stride(self) -> tuple[int, int]:
        """Height and width."""
        return (self.layer.stride[0], self.layer.stride[1]) if isinstance(self.layer, nn.Conv2d) else (1, 1)


def fit_layers(path: Path, layers: Sequence[Layer], model: MobileNet) -> dict[str, Tensor]:
    """The layers' tensors under the names of the network's state dict.

    The classifier's outputs may differ in number from the network's; all else must fit.

    Raises:
        WeightsError: the layers are of another network; the message names the missing, extra and misshapen tensors, or
            what else differs.
    """
    slots = list(_slots(model))
    unfit = _unfit(layers, slots, activation_chosen="activation" in model.config.options)
    if unfit:
        raise WeightsError(f"{path} does not fit {title(model)}: {unfit}")
    tensors: dict[str, Tensor] = {}
    for layer, slot in zip(layers, slots, strict=True):
        tensors |= _placed(layer, slot)
    return tensors


def norm_identity(norm: nn.BatchNorm2d) -> Tensor:
    """The running variance, `[C]`, with which batch norm in evaluation mode divides by exactly 1 in float32.

    1 - eps, or a neighbour of it: what is added to eps must round to 1.
    """
    eps, one = np.float32(norm.eps), np.float32(1)
    variance = one - eps
    while variance + eps < one:
        variance = np.nextafter(variance, one)
    return torch.full((norm.num_features,), float(variance))


def _slots(model: MobileNet) -> Iterator[Slot]:
    """The network's convolutions and linear layers in execution order, which is the order they were registered in."""
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    closing = {
        f"{name}.project.conv"
        for name, module in model.named_modules()
        if isinstance(module, InvertedResidual) and module.has_shortcut
    }
    for place, (name, module) in enumerate(leaves):
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        rest = leaves[place + 1 : place + 3]
        norm_name, norm = next(((n, m) for n, m in rest[:1] if isinstance(m, nn.BatchNorm2d)), ("", None))
        after = rest[1:2] if norm is not None else rest[:1]
        activation = next((_FUNCTIONS[type(m)] for _, m in after if type(m) in _FUNCTIONS), "identity")
        yield Slot(name, module, norm_name, norm, activation, name in closing)


def _placed(layer: Layer, slot: Slot) -> dict[str, Tensor]:
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight))
    bias = torch.from_numpy(np.array(layer.bias, dtype=np.float32))
    placed = {f"{slot.name}.weight": weight if isinstance(slot.layer, nn.Conv2d) else weight.flatten(1)}
    if slot.norm is None:
        return placed | {f"{slot.name}.bias": bias}
    return placed | {
        f"{slot.norm_name}.weight": torch.ones_like(bias),
        f"{slot.norm_name}.bias": bias,
        f"{slot.norm_name}.running_mean": torch.zeros_like(bias),
        f"{slot.norm_name}.running_var": norm_identity(slot.norm),
        f"{slot.norm_name}.num_batches_tracked": torch.tensor(0),
    }


def _unfit(layers: Sequence[Layer], slots: Sequence[Slot], *, activation_chosen: bool) -> str:
    """What does not fit, empty when all does; shapes first, since the rest only means something when they agree."""
    given = [layer.weight.shape for layer in layers]
    wanted = [slot.shape for slot in slots]
    # The number of classes is the user's choice.
    given[-1], wanted[-1] = given[-1][1:], wanted[-1][1:]
    if given != wanted:
        return _unfit_shapes(layers, slots, given, wanted)
    pairs = list(zip(layers, slots, strict=True))
    # A network for small images keeps the full size for longer; its weights are the same. A block whose stride has so
    # become 1 may have a shortcut it had not.
    strides = [(a, b) for a, b in pairs if b.stride not in (a.stride, (1, 1))]
    planned_alike = all(a.stride == b.stride for a, b in pairs)
    functions = [(a, b) for a, b in pairs if not _same_function(a, b, activation_chosen)]
    shortcuts = [(a, b) for a, b in pairs if planned_alike and a.shortcut != b.shortcut]
    return ", ".join(
        (
            *_listed("strides", [_unlike(a, b, a.stride, b.stride) for a, b in strides]),
            *_listed("activations", [_unlike(a, b, a.activation, b.activation) for a, b in functions]),
            *_listed("shortcuts", [_unlike(a, b, _said(a.shortcut), _said(b.shortcut)) for a, b in shortcuts]),
        )
    )


def _unfit_shapes(
    layers: Sequence[Layer], slots: Sequence[Slot], given: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]
) -> str:
    missing, extra, misshapen = [], [], []
    matcher = difflib.SequenceMatcher(None, wanted, given, autojunk=False)
    for _, i, i_end, j, j_end in (code for code in matcher.get_opcodes() if code[0] != "equal"):
        both = min(i_end - i, j_end - j)
        for slot, layer in zip(slots[i : i + both], layers[j : j + both], strict=True):
            misshapen.append(f"{layer.name} {list(layer.weight.shape)} where {slot.name} has {list(slot.shape)}")
        missing += [f"{slot.name} {list(slot.shape)}" for slot in slots[i + both : i_end]]
        extra += [f"{layer.name} {list(layer.weight.shape)}" for layer in layers[j + both : j_end]]
    return differences(len(slots), missing, extra, misshapen)


def _same_function(layer: Layer, slot: Slot, chosen: bool) -> bool:
    if layer.activation == slot.activation:
        return True
    rectified = ("relu", "relu6")
    # Some converters drop a ReLU that the range of the quantized output implies.
    dropped = layer.activation == "identity" and layer.clamped
    return slot.activation in rectified and (dropped or (chosen and layer.activation in rectified))


def _unlike(layer: Layer, slot: Slot, given: object, wanted: object) -> str:
    return f"{layer.name} {given} where {slot.name} has {wanted}"


def _said(shortcut: bool) -> str:
    return "with" if shortcut else "without"


def _listed(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"{len(items)} other {what} ({', '.join(items[:SHOWN])}{', ...' if len(items) > SHOWN else ''})"]
