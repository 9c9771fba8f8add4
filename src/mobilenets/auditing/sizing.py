"""The images a network takes: their channels and a size, found by trying; or why it takes none, and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mobilenets.auditing.graph.hooks import random_images
from mobilenets.auditing.graph.sandbox import REFUSALS, evaluation_copy, quiet, tensors_of
from mobilenets.errors import AuditError, first_line
from mobilenets.models.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE

DEFAULT_SIZE = 224
# After 224: the sizes of small-image networks, then the papers' others, Inception's, and the size of digits.
_OTHER_SIZES = (32, 96, 128, 160, 192, 256, 299, 28)
# Faults of the code itself, which no image size fixes.
_IN_THE_CODE = (AttributeError, NameError, TypeError, ImportError, NotImplementedError, SystemExit, RecursionError)


@dataclass(frozen=True)
class _Failure:
    """Why a network does not answer to an image of some size; `advice` where no other size can help."""

    reason: str
    advice: str = ""


def check_image_size(image_size: int) -> None:
    """Refuse a size no network of the family takes, before anything runs at it.

    Raises:
        AuditError: it is not from 8 to 4096 pixels.
    """
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise AuditError(f"`image_size` is {image_size}: it must be from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels")


def input_shape(
    text: str, module: nn.Module, image_size: int | None
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """`[1, C, H, W]` that the network takes: of the user's size, or of the first of the usual ones; and notes on it.

    Raises:
        AuditError: it fails; the message says why and what may help.
    """
    network = evaluation_copy(module)
    size = image_size or DEFAULT_SIZE
    channels, failure = _channels(network, size)
    if failure is None:
        return (1, channels, size, size), ()
    if failure.advice:
        raise AuditError(f"{text} fails on an image: {failure.reason}; {failure.advice}")
    if image_size is not None:
        advice = _advice(network, channels, size)
        raise AuditError(f"{text} fails on images of {size} x {size}: {failure.reason}; {advice}")
    for other in _OTHER_SIZES:
        if _failure(network, channels, other) is None:
            return (1, channels, other, other), (f"it fails on images of 224 x 224; audited at {other} x {other}",)
    raise AuditError(
        f"{text} fails on images of 224 x 224 and the other usual sizes: {failure.reason}; "
        "set `image_size`, if it is for images of another"
    )


def detector_backbone(module: nn.Module) -> tuple[str, nn.Module] | None:
    """Name and module of the part of a detector that reads the images; None for a network that is no detector.

    Raises:
        AuditError: it is a detector, and no part of it takes images.
    """
    network = evaluation_copy(module)
    if _other_inputs(network):
        return None
    try:
        with quiet(), torch.no_grad():
            outputs = network(random_images((1, 3, DEFAULT_SIZE, DEFAULT_SIZE)))
    except REFUSALS:
        return None
    if not _is_detection(outputs):
        return None
    parts = sorted(network.named_children(), key=lambda part: -sum(one.numel() for one in part[1].parameters()))
    for name, part in parts:
        if any(True for _ in part.parameters()) and _failure(part, 3, DEFAULT_SIZE) is None:
            return name, part
    raise AuditError(
        f"{type(module).__name__} is a detector: it answers with records of boxes, no logits; "
        "name what makes its backbone, to audit that"
    )


def materialized(module: nn.Module) -> nn.Module:
    """The module, or a copy that has seen an image where it makes its weights from the first one (`LazyConv2d`)."""
    weights = (*module.parameters(), *module.buffers())
    if not any(isinstance(weight, UninitializedParameter | UninitializedBuffer) for weight in weights):
        return module
    network = evaluation_copy(module)
    for size in (DEFAULT_SIZE, *_OTHER_SIZES):
        if _failure(network, 3, size) is None:
            return network
    return module


def _channels(network: nn.Module, size: int) -> tuple[int, _Failure | None]:
    """How many channels its images have: as many as the first filter in order of the parameters, if it takes those."""
    first = next((int(weight.shape[1]) for weight in network.parameters() if _is_filter(weight)), 3) or 3
    failure = _failure(network, first, size)
    for channels in (3, 1):
        # The first filter need not be the first that runs, nor be stored in its own shape.
        if failure is not None and channels != first and _failure(network, channels, size) is None:
            return channels, None
    return first, failure


def _is_filter(weight: torch.Tensor) -> bool:
    return not isinstance(weight, UninitializedParameter) and weight.dim() == 4


def _advice(network: nn.Module, channels: int, size: int) -> str:
    """What may help where one image fails: batch norm that trains on takes two where it refuses one."""
    try:
        with quiet(), torch.no_grad():
            network(random_images((2, channels, size, size)))
    except REFUSALS:
        return "choose another `image_size`"
    return "two at once work, so batch norm goes on training after eval(): replace training=True by self.training"


def _failure(network: nn.Module, channels: int, size: int) -> _Failure | None:
    inputs = _other_inputs(network)
    if inputs:
        return _Failure(inputs, "name a function that makes a network of images alone")
    try:
        with quiet(), torch.no_grad():
            outputs = network(random_images((1, channels, size, size)))
    except REFUSALS as error:
        return _Failure(f"{type(error).__name__}: {first_line(error)}", _fix(error))
    tensors = list(tensors_of(outputs))
    if not tensors:
        return _Failure(f"forward returns {type(outputs).__name__}, no tensor", "let it return the logits")
    if any(tensor.dim() > 1 and len(tensor) == 1 and tensor.numel() for tensor in tensors):
        return None
    if not tensors[0].numel():
        return _Failure(f"its answer {list(tensors[0].shape)} is empty")
    if tensors[0].dim() > 1:
        # `view(-1, channels)` behind a pool of fixed size takes the places of a larger map for further images.
        return _Failure(f"one image has {len(tensors[0])} answers")
    return None


def _is_detection(outputs: Any) -> bool:
    """Whether it is a list with a record of boxes (or masks, or key points) for each image, as detectors return."""
    return isinstance(outputs, list | tuple) and bool(outputs) and all(isinstance(one, Mapping) for one in outputs)


def _other_inputs(network: nn.Module) -> str:
    """What `forward` wants beside the images, in words; empty where it takes these alone."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.default is one.empty and one.kind in (*positional, one.KEYWORD_ONLY)]
    if len(needed) > 1:
        return f"its forward takes {' and '.join(one.name for one in needed)}, not images alone"
    if not any(one.kind in (*positional, one.VAR_POSITIONAL) for one in parameters):
        return "its forward takes no images"
    return ""


def _fix(error: BaseException) -> str:
    """What to do about an error that lies in the code; empty where the size of the images may be at fault."""
    if isinstance(error, ModuleNotFoundError):
        return "install it"
    text = first_line(error)
    if "CUDA" in text or "NVIDIA" in text or ".cuda" in text:
        return "let it run on its input's device: the audit runs on the CPU"
    if isinstance(error, NotImplementedError) and "forward" in text:
        return "name the class that has a forward"
    if isinstance(error, RecursionError):
        return "its forward calls itself without end: fix it first"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    return "the fault is in its code, whatever the image: fix it first" if isinstance(error, _IN_THE_CODE) else ""
