"""A moving average of the weights, on torch's `AveragedModel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, update_bn

Average = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of all weights and batch-norm statistics of `model`.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates, TensorFlow's ExponentialMovingAverage rule
    with which the papers' weights were averaged: without it a short run would end near its random start.
    """
    return AveragedModel(model, multi_avg_fn=_warmed_up(decay), use_buffers=True)


def _warmed_up(decay: float) -> Average:
    @torch.no_grad()
    def average(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for mean, value in zip(averages, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), weight)
            else:  # batch norm counts its batches in an integer
                mean.copy_(value)

    return average


# Batch norm's running statistics after a short training.
#
# They start at mean 0 and variance 1 and move by `momentum` a step: 0.1 in MobileNetV1 and V2, 0.01 in V3. After 100
# steps at 0.01 they are still 37 % made up, and a network that scores 86 % on the batches it is trained on may score
# 10 %
# once it is evaluated. So where training was too short for the start to be forgotten, they are measured anew.
#
# So they are where the result is an average of the weights. The statistics were averaged too, but they are those of
# each
# of the weights that were averaged, and not what the average makes of the images.


MAX_INITIAL_SHARE = 1e-3  # the share of the made-up start that may be left in the statistics


def initial_share(model: nn.Module, steps: int) -> float:
    """How much of the initial statistics is left after `steps` training steps, 0 to 1: (1 - momentum) ** steps.

    Frozen layers count as settled: theirs are the weights' own.
    """
    norms = (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    momenta = [layer.momentum for layer in norms if layer.weight is None or layer.weight.requires_grad]
    return max((1 - momentum) ** steps if momentum is not None else 0.0 for momentum in momenta) if momenta else 0.0


def why_reestimate(model: nn.Module, steps: int, *, averaged: bool) -> str | None:
    """In words why the statistics after `steps` training steps must be measured anew, or None if they need not.

    `averaged` says whether the weights are an average over steps.
    """
    left = initial_share(model, steps)
    if left > MAX_INITIAL_SHARE:
        return f"after so few steps its running averages still hold {left:.0%} of their initial values"
    if averaged and any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return "its statistics were not those of the averaged weights"
    return None


def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by their plain average over `batches` ([B, C, H, W], on the model's device).

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2, by torch's `update_bn`. The model's mode is kept.
    """
    update_bn(batches, model)


# Batch norm over the batch of all processes, not of each alone.
#
# With few images a process, each one's own mean and variance are too rough. PyTorch's `SyncBatchNorm` runs on GPUs
# only;
# on the CPU the layer here does the same.


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
