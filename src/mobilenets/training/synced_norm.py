"""Batch norm over the images of all processes, not of each alone.

With few images a process, each one's own mean and variance are too rough. PyTorch's `SyncBatchNorm` runs on GPUs only;
on the CPU the layer here does the same.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn


class _SumOverTeam(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance in training are those of all processes' images, on the CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps [B, C, H, W] -> the same, normalised over all processes, in their format and memory layout.

        Statistics of half-precision maps are computed in float32, as torch's own layers do: bfloat16 can't even count
        to 257.
        """
        if not self.training:
            return super().forward(images)
        values = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
        count = images.numel() // images.shape[1]
        sums = torch.cat([values.sum(dim=(0, 2, 3)), values.new_full((1,), count)])
        sums = cast(Tensor, _SumOverTeam.apply(sums))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        # Centred before squaring: the difference of two large sums would lose the digits that matter.
        centred = values - mean[None, :, None, None]
        squares = cast(Tensor, _SumOverTeam.apply(centred.square().sum(dim=(0, 2, 3))))
        variance = squares / total
        self._remember(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        normalised = centred * scale[None, :, None, None]
        if self.bias is not None:
            normalised = normalised + self.bias[None, :, None, None]
        return normalised.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, by the rule of `nn.BatchNorm2d`."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def sync_norms(model: nn.Module, device: torch.device) -> None:
    """Make every trainable batch norm of `model` take its statistics over all processes, in place.

    Weights and statistics stay the very same tensors, so an optimizer that holds them goes on working.
    """
    _exchange(model, nn.BatchNorm2d, nn.SyncBatchNorm if device.type == "cuda" else SyncedBatchNorm2d)


def unsync_norms(model: nn.Module) -> None:
    """Undo `sync_norms`: a network used by one process must not wait for others."""
    for synced in (SyncedBatchNorm2d, nn.SyncBatchNorm):
        _exchange(model, synced, nn.BatchNorm2d)


def _exchange(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is old:
                setattr(module, name, _remade(child, new))


def _remade(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A layer of another kind around the same tensors."""
    remade = kind(
        layer.num_features,
        layer.eps,
        layer.momentum,
        affine=layer.affine,
        track_running_stats=layer.track_running_stats,
        device="meta",
    )
    for name, parameter in layer.named_parameters(recurse=False):
        remade.register_parameter(name, parameter)
    for name, buffer in layer.named_buffers(recurse=False):
        remade.register_buffer(name, buffer)
    return remade.train(layer.training)
