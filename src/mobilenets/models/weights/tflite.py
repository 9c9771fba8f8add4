"""Weights from TensorFlow Lite files: float, float16 and 8-bit MobileNets V1 to V3, whatever converter wrote them.

Such files have lost their batch norm: it is folded into the convolutions. Our networks keep theirs, as the exact
identity and with the file's bias, so that the result is the same network with the same state dict as any other.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mobilenets.errors import DataError, WeightsError
from mobilenets.models.config import OptionValue
from mobilenets.models.layers import InvertedResidual
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import SHOWN, ImportedWeights, differences, title
from mobilenets.preprocessing import Preprocessing
from mobilenets.tflite.layers import Layers, read_layers
from mobilenets.tflite.model import TfliteModel, TfliteTensor
from mobilenets.tflite.reader import read_model
from mobilenets.tflite.signals import Layer

NORM_EPS = 1e-3
"""TF-slim's and Keras's batch norm eps for these networks: what training on from these weights should use."""
RESIZE_RATIO = 0.875
"""The central part TF-slim's evaluation keeps (`inception_preprocessing.py`); files do not say."""
CLASSES_WITH_BACKGROUND = 1001
Values = tuple[float, ...]
_PIXEL_OFFSET = {"UINT8": 0, "INT8": -128}
"""Stored input value of a black pixel."""
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
    same_plan = all(a.stride == b.stride for a, b in pairs)
    functions = [(a, b) for a, b in pairs if not _same_function(a, b, activation_chosen)]
    shortcuts = [(a, b) for a, b in pairs if same_plan and a.shortcut != b.shortcut]
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


def read_tflite_weights(path: Path) -> ImportedWeights:
    """Read a TensorFlow Lite classifier's weights, as real numbers, and the options its outputs depend on.

    Returns:
        The weights; `options` hold `padding` as the file pads, `norm_eps`, and for networks with an activation behind
        every layer, as V1 has, `activation`. `tensors(model)` raises WeightsError when the network is another one.

    Raises:
        WeightsError: no such file, damaged, or no image classifier.
    """
    model = read_model(path)
    try:
        found = read_layers(model)
        preprocessing, notes = _preprocessing(model, found)
        options: dict[str, OptionValue] = {"padding": _padding(found.layers), "norm_eps": NORM_EPS}
    except (WeightsError, DataError) as error:
        raise WeightsError(f"{path}: {error}") from error
    activation = _activation(found.layers)
    if activation is not None:
        options["activation"] = activation
    num_classes = len(found.layers[-1].weight)
    labels = model.labels if model.labels is not None and len(model.labels) == num_classes else None
    if model.labels is not None and labels is None:
        notes.append(f"Its label file names {len(model.labels)} classes for {num_classes} outputs: they are ignored.")
    return ImportedWeights(
        path=path,
        origin="TensorFlow Lite",
        num_classes=num_classes,
        options=options,
        tensors=partial(fit_layers, path, found.layers),
        preprocessing=preprocessing,
        classes=labels,
        in_channels=found.layers[0].weight.shape[1],
        has_background=num_classes == CLASSES_WITH_BACKGROUND,
        notes=tuple(notes),
    )


def _padding(layers: tuple[Layer, ...]) -> str:
    """How the file pads: `same` or `symmetric`, whichever all its convolutions agree with; the first if both do."""
    agreeing = {"same": True, "symmetric": True}
    for layer in layers:
        kernel, stride = layer.weight.shape[2:], layer.stride
        for axis in (0, 1):
            size, before, after = layer.input_size[axis], layer.pads[2 * axis], layer.pads[2 * axis + 1]
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size, 0)
            half = (kernel[axis] - 1) // 2
            agreeing["same"] &= (before, after) == (total // 2, total - total // 2)
            # A last zero no filter reaches makes no difference: converters leave it out.
            reached = (size + 2 * half - kernel[axis]) // stride[axis] * stride[axis] + kernel[axis] - size - half
            agreeing["symmetric"] &= before == half and after in (half, reached)
        if not any(agreeing.values()):
            raise WeightsError(
                f"layer {layer.name!r} pads by {layer.pads} (top, bottom, left, right), neither as TensorFlow's SAME "
                "nor symmetrically as the layers before: no network of ours does"
            )
    return next(name for name, agrees in agreeing.items() if agrees)


def _activation(layers: tuple[Layer, ...]) -> str | None:
    """V1's option, for files built as V1: a ReLU of one kind behind every layer but the classifier."""
    kinds = {layer.activation for layer in layers[:-1] if not (layer.activation == "identity" and layer.clamped)}
    if kinds <= {"relu", "relu6"} and len(kinds) == 1:
        return kinds.pop()
    return None


def _preprocessing(model: TfliteModel, found: Layers) -> tuple[Preprocessing, list[str]]:
    image = model.tensors[model.inputs[0]]
    if len(image.shape) != 4 or not {1, 3} & {image.shape[1], image.shape[3]}:
        raise WeightsError(f"its input {list(image.shape)} is no batch of images [B, H, W, C] of 3 channels or 1")
    _, height, width, channels = image.shape
    if channels not in (1, 3):  # converted from PyTorch, with a transpose in front
        _, channels, height, width = image.shape
    if height != width:
        raise WeightsError(f"its input is {height}x{width}, and our networks take square images")
    scale, shift, notes = _input_values(image, model, found)
    try:
        preprocessing = Preprocessing(
            image_size=height,
            resize_size=round(height / RESIZE_RATIO),
            channels=channels,
            mean=tuple(-offset / (255 * factor) for factor, offset in zip(scale, shift, strict=True)),
            std=tuple(1 / (255 * factor) for factor in scale),
        )
    except ZeroDivisionError as error:
        raise WeightsError("it multiplies the image by 0 before its first layer: a damaged file") from error
    return preprocessing, notes


def _input_values(image: TfliteTensor, model: TfliteModel, found: Layers) -> tuple[Values, Values, list[str]]:
    """The first layer's input as `scale * pixel + shift`, pixels from 0 to 255, per channel; and notes."""
    rescaled = any(value != 1 for value in found.input_scale) or any(found.input_shift)
    notes: list[str] = []
    scale: Values = (1.0,)
    shift: Values = (0.0,)
    if image.quantization is not None and image.dtype in _PIXEL_OFFSET:
        quantization = image.quantization
        scale = (quantization.scales[0],)
        shift = ((_PIXEL_OFFSET[image.dtype] - quantization.zero_points[0]) * quantization.scales[0],)
    elif model.normalization is not None and model.normalization.mean and model.normalization.std:
        means, stds = model.normalization.mean, model.normalization.std
        scale = tuple(1 / std for std in stds)
        shift = tuple(-mean / std for mean, std in _paired(means, stds))
    elif rescaled:
        notes.append("It scales the image itself: its input is assumed to be pixels from 0 to 255.")
    elif image.dtype == "FLOAT32":
        scale, shift = (1 / 127.5,), (-1.0,)
        notes.append("It does not say how images are prepared: [-1, 1] is assumed, as in the authors' code.")
    factors = [outer * inner for outer, inner in _paired(found.input_scale, scale)]
    moved = [outer * inner for outer, inner in _paired(found.input_scale, shift)]
    offsets = [inner + outer for inner, outer in _paired(tuple(moved), found.input_shift)]
    pairs = _paired(tuple(factors), tuple(offsets))
    return tuple(factor for factor, _ in pairs), tuple(offset for _, offset in pairs), notes


def _paired(left: Values, right: Values) -> list[tuple[float, float]]:
    """Values of the same channel, where one value may stand for all channels."""
    count = max(len(left), len(right))
    if len(left) not in (1, count) or len(right) not in (1, count):
        raise WeightsError(f"it prepares {len(left)} channels in one place and {len(right)} in another: a damaged file")
    return list(zip(left * (count // len(left)), right * (count // len(right)), strict=True))
