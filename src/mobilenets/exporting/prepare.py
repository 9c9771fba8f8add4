"""The network every translator starts from: folded, quiet about memory layouts, fed with pictures as they are."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from mobilenets.errors import ExportError
from mobilenets.exporting.fold import folded
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing


def exportable(model: nn.Module, preprocessing: Preprocessing) -> nn.Sequential:
    """A copy of a network to be exported: evaluation mode, CPU, batch norm folded, nothing in place.

    Translators fold batch norm too, but after tracing and decomposing it, some of them inexactly or not at all; with it
    gone beforehand all of them get the same plain graph, and sooner.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`; it is not touched.
        preprocessing: gives the normalisation to put inside.

    Returns:
        Images uint8 `[B, H, W, C]` to logits float32 `[B, K]`.
    """
    network: nn.Module
    try:
        network = folded(model)
    except TraceError:
        # Its way depends on its input: such a network is exported as it is, and folded by the translator if at all.
        network = copy.deepcopy(model).eval()
    # Training leaves weights channels-last, which exporters keep by shape arithmetic around every pool.
    network = network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    prepared = nn.Sequential(Normalizer(preprocessing), Contiguous(), network).eval()
    for parameter in prepared.parameters():
        parameter.requires_grad_(False)
    return prepared


def example_images(preprocessing: Preprocessing, count: int) -> Tensor:
    """Images to trace a network with, uint8 `[count, H, W, C]`, all black."""
    size = preprocessing.image_size
    return torch.zeros(count, size, size, preprocessing.channels, dtype=torch.uint8)


def check_outputs(outputs: tuple[int, ...], classes: int) -> None:
    """Refuse a network whose outputs are not one logit for each class.

    Args:
        outputs: shape of its answer to a batch of images.
        classes: how many names there are.

    Raises:
        ExportError: they differ.
    """
    if len(outputs) != 2 or outputs[1] != classes:
        raise ExportError(f"the network's output is {list(outputs)}, but there are {classes} classes: name each output")


class Contiguous(nn.Module):
    """Give traced images the plain memory layout.

    From `[B, H, W, C]` they come channels-last; to keep that layout PyTorch's global pooling restrides its output,
    which exporters spell out as shape arithmetic and a gather after every pool. Exported graphs know no memory layouts.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The same images, row after row."""
        return images.contiguous()
