"""A moving average of the weights, on torch's `AveragedModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

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
