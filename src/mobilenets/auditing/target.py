"""What is to be audited: a module from anybody's code, a file, or one of our run folders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from mobilenets.auditing.graph.hooks import random_images
from mobilenets.auditing.graph.sandbox import evaluation_copy, quiet
from mobilenets.auditing.user_code import FORMS, named_object, no_arguments
from mobilenets.comparison_folder import recommended_run
from mobilenets.errors import AuditError, first_line
from mobilenets.limits import open_regular
from mobilenets.models.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, NetworkConfig
from mobilenets.models.saved import DESCRIPTION, load_network

# What files of weights alone are called.
_WEIGHTS_ALONE = {".pt", ".pth", ".ckpt", ".pkl", ".safetensors", ".h5"}
# After 224: the sizes of small-image networks, then the papers' others, Inception's, and the size of digits.
_OTHER_SIZES = (32, 96, 128, 160, 192, 256, 299, 28)
_DEFAULT_SIZE = 224


class TargetKind(StrEnum):
    """What the network comes from."""

    MODULE = "module"
    ONNX = "onnx"
    TFLITE = "tflite"


@dataclass(frozen=True)
class Target:
    """A network to audit.

    Attributes:
        title: for people, as the user named it.
        kind: which front end reads it.
        module: the network, for `TargetKind.MODULE`.
        path: the file, for the others.
        input_shape: `[1, C, H, W]` it works with; None for a file, which has its own.
        config: what our own run folder says it is.
        notes: what the user should know of the choice, a sentence each.
    """

    title: str
    kind: TargetKind
    module: nn.Module | None = field(default=None, repr=False)
    path: Path | None = None
    input_shape: tuple[int, int, int, int] | None = None
    config: NetworkConfig | None = None
    notes: tuple[str, ...] = ()


def load_target(text: str, args: Mapping[str, Any] | None = None, image_size: int | None = None) -> Target:
    """Find and build what the user named.

    Args:
        text: `package.module:Factory` (the current directory's modules too), `path/file.py:Class`, an ONNX or
            TensorFlow Lite file, a run folder, or a comparison's for the network it recommends. What
            stands behind the colon is a class, a function that returns a network, or a network.
        args: keyword arguments for the class or function.
        image_size: side of the images in pixels; None tries 224 and then other usual sizes.

    Raises:
        AuditError: it can't be found, loaded or built, or is no PyTorch module; the message says which and what to do.
        RunError: a run folder that is damaged.
    """
    if not text.strip():
        raise AuditError(f"no target is named: {FORMS}")
    path = recommended_run(text) or Path(text)
    if path.is_dir() and not (path / DESCRIPTION).exists():
        raise AuditError(f"{text} is a folder without {DESCRIPTION}, so no run folder; {FORMS}")
    if path.exists() and args:
        raise AuditError(f"--args are for a class or function; {text} is built already: leave them out")
    if path.is_dir():
        saved = load_network(path)
        config = saved.model.config
        shape = (1, config.in_channels, image_size or config.image_size, image_size or config.image_size)
        return Target(text, TargetKind.MODULE, module=saved.model, input_shape=shape, config=config)
    if path.exists() and path.suffix != ".py":  # also a pipe, which opening it then refuses
        return Target(text, _file_kind(path), path=path)
    module = _built(text, named_object(text), dict(args or {}))
    return replace(module_target(module, image_size), title=text)


def module_target(module: nn.Module, image_size: int | None = None) -> Target:
    """A network that is there already; `title` is its class.

    Raises:
        AuditError: it takes no images of that size, or of any usual size.
    """
    title = type(module).__name__
    if image_size is not None:
        check_image_size(image_size)
    module = _materialized(module)
    shape, notes = _input_shape(title, module, image_size)
    return Target(title, TargetKind.MODULE, module=module, input_shape=shape, notes=notes)


def _file_kind(path: Path) -> TargetKind:
    try:
        with open_regular(path) as file:
            head = file.read(8)
    except OSError as error:
        raise AuditError(f"{path} can't be read: {error.strerror or error}") from error
    # A FlatBuffers file has its four letters behind the root's offset.
    if path.suffix == ".tflite" or head[4:8] == b"TFL3":
        return TargetKind.TFLITE
    # A protobuf ModelProto opens with field 1, ir_version: a tag of 8 and a small number.
    if path.suffix == ".onnx" or (len(head) > 1 and head[0] == 8 and 3 <= head[1] < 32):
        return TargetKind.ONNX
    if path.suffix in _WEIGHTS_ALONE:
        raise AuditError(f"{path} holds weights, which don't say how they are wired; name the code: path/file.py:Class")
    raise AuditError(f"{path} is neither an ONNX nor a TensorFlow Lite file; {FORMS}")


def _built(text: str, found: Any, args: dict[str, Any]) -> nn.Module:
    if isinstance(found, nn.Module):
        if args:
            raise AuditError(f"--args are for a class or function; {text} is built already: leave them out")
        return found
    if not callable(found):
        raise AuditError(f"{text} is a {type(found).__name__}, not a class or function that makes a network")
    _check_arguments(text, found, args)
    try:
        with quiet(), no_arguments():
            network = found(**args)
    except SystemExit as error:
        raise AuditError(f"{text} ends the program instead of making a network; mend it first") from error
    except Exception as error:  # someone else's code may raise anything
        raise AuditError(
            f"{text} fails when called: {type(error).__name__}: {first_line(error)}; pass what it needs with --args"
        ) from error
    if not isinstance(network, nn.Module):
        raise AuditError(f"{text} makes a {type(network).__name__}, not a PyTorch module; name what makes the network")
    return network


def _check_arguments(text: str, factory: Callable[..., Any], args: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        # Written in C: calling it will tell.
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        raise AuditError(f"{text}{signature} can't take these arguments: {error}; pass them as --args JSON") from error


def check_image_size(image_size: int) -> None:
    """Refuse a size no network of the family takes, before anything runs at it.

    Raises:
        AuditError: it is not from 8 to 4096 pixels.
    """
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise AuditError(f"--image-size is {image_size}: it must be from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels")


def _materialized(module: nn.Module) -> nn.Module:
    """The module, or a copy that has seen an image where it makes its weights from the first one (`LazyConv2d`)."""
    if not any(isinstance(weight, UninitializedParameter) for weight in module.parameters()):
        return module
    network = evaluation_copy(module)
    for size in (_DEFAULT_SIZE, *_OTHER_SIZES):
        if _failure(network, 3, size) is None:
            return network
    return module


def _input_shape(
    text: str, module: nn.Module, image_size: int | None
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """A size the network takes: the user's, or the first of the usual ones; said when it is not 224."""
    network = evaluation_copy(module)
    channels = _in_channels(network)
    size = image_size or _DEFAULT_SIZE
    reason = _failure(network, channels, size)
    if reason is None:
        return (1, channels, size, size), ()
    if image_size is not None:
        advice = _advice(network, channels, size)
        raise AuditError(f"{text} fails on images of {size} x {size}: {reason}; {advice}")
    for other in _OTHER_SIZES:
        if _failure(network, channels, other) is None:
            return (1, channels, other, other), (f"it fails on images of 224 x 224; audited at {other} x {other}",)
    raise AuditError(f"{text} fails on images of 224 x 224 and the other usual sizes: {reason}; set --image-size")


def _advice(network: nn.Module, channels: int, size: int) -> str:
    """What may help where one image fails: batch norm that trains on takes two where it refuses one."""
    try:
        with quiet(), torch.no_grad():
            network(random_images((2, channels, size, size)))
    except Exception:  # noqa: BLE001  # someone else's code may raise anything
        return "choose another --image-size"
    return "two at once work, so batch norm goes on training after eval(): replace training=True by self.training"


def _failure(network: nn.Module, channels: int, size: int) -> str | None:
    try:
        with quiet(), torch.no_grad():
            answer = network(random_images((1, channels, size, size)))
    except Exception as error:  # noqa: BLE001  # someone else's code may raise anything
        return first_line(error)
    tensors = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        return f"forward returns {type(answer).__name__}, no tensor"
    if not tensors[0].numel():
        return f"its answer {list(tensors[0].shape)} is empty"
    if tensors[0].dim() > 1 and len(tensors[0]) != 1:
        # `view(-1, channels)` behind a pool of fixed size takes the places of a larger map for further images.
        return f"one image has {len(tensors[0])} answers"
    return None


def _in_channels(network: nn.Module) -> int:
    """Of the first filter in order of the parameters; 3 where it has none."""
    for weight in network.parameters():
        if not isinstance(weight, UninitializedParameter) and weight.dim() == 4:
            return int(weight.shape[1]) if weight.shape[1] > 0 else 3
    return 3
